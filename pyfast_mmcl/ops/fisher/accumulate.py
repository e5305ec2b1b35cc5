"""From contributions to squared per-sample gradients, summed over samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from .calls import Call
from .contributions import Contribution, Outer
from .shared import Shared, SharedTensors

# Floats of per-sample gradients that the deferred path holds at once (at least one sample's).
BUDGET = 1 << 24


class SquareSums:
    """Σ_b G_b² (or |G_b|) per parameter, float32 (float64 for float64 parameters), over any number of passes.

    A parameter used once is accumulated as its gradient arrives. One that is used again (tied, reused, computed from)
    waits for the end of the pass, since its parts add up per sample before the square.
    """

    def __init__(self, params: Mapping[str, Tensor], absolute: bool, backend: str) -> None:
        self.totals = {name: torch.zeros_like(p, dtype=_wide(p), requires_grad=False) for name, p in params.items()}
        self._absolute, self._backend = absolute, backend
        self._direct: dict[int, Tensor] = {}
        self._waiting: dict[Shared, list[Contribution]] = defaultdict(list)

    def begin(self, shared: SharedTensors, calls: list[Call]) -> None:
        """Settle, from all uses of the forward pass, who may be accumulated at once."""
        self._shared = shared
        self._direct.clear()
        uses = [s for call in calls for s in call.targets]
        for s in uses:
            if s.region is not None and uses.count(s) == 1:
                self._direct[id(s)] = s.region.of(self.totals[s.region.name])
        self._drop_overlaps(uses)

    def _drop_overlaps(self, uses: list[Shared]) -> None:
        by_leaf = defaultdict(list)
        for s in uses:
            for name in s.leaves:
                by_leaf[name].append(s)
        late = {n for n, us in by_leaf.items() if not all(id(s) in self._direct for s in us) or self._overlap(n, us)}
        while True:
            more = {n for s in uses if late & set(s.leaves) for n in s.leaves} - late
            if not more:
                break
            late |= more
        for s in uses:
            if late & set(s.leaves):
                self._direct.pop(id(s), None)

    def _overlap(self, name: str, uses: list[Shared]) -> bool:
        if len(uses) == 1:
            return False
        taken = torch.zeros_like(self.totals[name], dtype=torch.bool)
        for s in uses:
            part = s.region.of(taken)
            if bool(part.any()):
                return True
            part.fill_(True)
        return False

    def add(self, target: Shared, part: Contribution) -> None:
        """Take one contribution of the running pass."""
        out = self._direct.get(id(target))
        if out is not None:
            part.square_into(out, self._absolute, self._backend)
        else:
            self._waiting[target].append(part)

    def end(self) -> None:
        """The pass is over: add what waited for its other parts."""
        waiting, self._waiting = self._waiting, defaultdict(list)
        while waiting:
            group = _connected(waiting)
            self._finish({s: waiting.pop(s) for s in group})

    def _finish(self, parts: dict[Shared, list[Contribution]]) -> None:
        (target, first), *others = parts.items()
        if not others and target.region is not None and _joinable(first):
            out = target.region.of(self.totals[target.region.name])
            Outer.joined(first).square_into(out, self._absolute, self._backend)
            return
        names = sorted({name for s in parts for name in s.leaves})
        samples = first[0].samples
        step = max(1, BUDGET // max(1, sum(self.totals[n].numel() for n in names)))
        for start in range(0, samples, step):
            for name, grads in dense_grads(self._shared, self.totals, names, parts, slice(start, start + step)).items():
                self.totals[name] += (grads.abs() if self._absolute else grads.square()).sum(0)


def _connected(waiting: Mapping[Shared, list]) -> list[Shared]:
    """The first waiting tensor and all that share a parameter with it, directly or through others."""
    group, names = [], set(next(iter(waiting)).leaves)
    while True:
        found = [s for s in waiting if names & set(s.leaves)]
        if len(found) == len(group):
            return group
        group, names = found, names | {n for s in found for n in s.leaves}


def _joinable(parts: list[Contribution]) -> bool:
    return all(isinstance(p, Outer) and p.transposed == parts[0].transposed for p in parts)


def dense_grads(
    shared: SharedTensors,
    like: Mapping[str, Tensor],
    names: list[str],
    parts: Mapping[Shared, list[Contribution]],
    rows: slice,
) -> dict[str, Tensor]:
    """Per-sample gradients [b, *shape] of the parameters ``names`` from all their contributions, for some samples."""
    count = len(range(*rows.indices(next(iter(parts.values()))[0].samples)))
    grads = {n: _batch_of(like[n], count) for n in names}
    for target, contributions in parts.items():
        dtype = like[target.leaves[0]].dtype
        dense = sum(c.dense(rows, dtype) for c in contributions)
        if target.region is not None:
            target.region.of(grads[target.region.name]).add_(dense)
            continue
        leaves = [shared.leaves[n].shadow for n in target.leaves]
        pulled = torch.autograd.grad(
            target.shadow,
            leaves,
            dense.to(target.shadow.dtype),
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )
        for name, pull in zip(target.leaves, pulled, strict=True):
            if pull is not None:
                grads[name] += pull
    return grads


def _batch_of(x: Tensor, count: int) -> Tensor:
    """Zeros [count, *shape] whose slices have the strides of ``x``."""
    zeros = torch.zeros(count * x.numel(), dtype=x.dtype, device=x.device)
    return zeros.as_strided((count, *x.shape), (x.numel(), *x.stride()))


def _wide(p: Tensor) -> torch.dtype:
    return torch.float64 if p.dtype == torch.float64 else torch.float32
