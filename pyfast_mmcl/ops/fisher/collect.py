"""Which contributions can be taken as they arrive, and which must wait for others of the same parameter."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from .calls import Call
from .contributions import Contribution, Outer
from .shared import Shared, SharedTensors

# Floats of per-sample gradients that the waiting parts may form at once (at least one sample's).
BUDGET = 1 << 24


class Collector(ABC):
    """Takes the contributions of one backward pass after another.

    A parameter used once is taken as its gradient arrives. One that is used again (tied, reused, computed from) waits
    for the end of the pass, since its parts add up per sample before anything is squared.
    """

    def __init__(self, params: Mapping[str, Tensor]) -> None:
        self._params = params
        self._at_once: set[int] = set()
        self._waiting: dict[Shared, list[Contribution]] = defaultdict(list)

    @abstractmethod
    def take(self, target: Shared, part: Contribution) -> None:
        """One part that is the whole per-sample gradient of its elements."""

    @abstractmethod
    def take_dense(self, grads: dict[str, Tensor], rows: slice) -> None:
        """Whole per-sample gradients [b, *shape] of some parameters, for some samples."""

    def begin(self, shared: SharedTensors, calls: list[Call]) -> None:
        """Settle, from all uses of the forward pass, who may be taken at once."""
        self._shared = shared
        targets = [s for call in calls for s in call.targets]
        names = [name for s in targets for name in s.leaves]
        if len(set(names)) == len(names) and all(s.region is not None for s in targets):
            self._at_once = {id(s) for s in targets}  # the usual case: every parameter is read once
            return
        uses = Counter(s for call in calls for s in call.targets)
        by_leaf = defaultdict(list)
        for s in uses:
            for name in s.leaves:
                by_leaf[name].append(s)
        late = {name for name, users in by_leaf.items() if not self._separate(name, users, uses)}
        while more := {n for s in uses if late & set(s.leaves) for n in s.leaves} - late:
            late |= more
        self._at_once = {id(s) for s in uses if not late & set(s.leaves)}

    def _separate(self, name: str, users: list[Shared], uses: Counter) -> bool:
        """Whether no element of the parameter is read twice, or computed from."""
        if any(s.region is None or uses[s] > 1 for s in users):
            return False
        if len(users) == 1:
            return True
        taken = torch.zeros_like(self._params[name], dtype=torch.bool, requires_grad=False)
        for s in users:
            part = s.region.of(taken)
            if bool(part.any()):
                return False
            part.fill_(True)
        return True

    def add(self, target: Shared, part: Contribution) -> None:
        """One contribution of the running pass."""
        if id(target) in self._at_once:
            self.take(target, part)
        else:
            self._waiting[target].append(part)

    def end(self) -> None:
        """The pass is over: take what waited for its other parts."""
        waiting, self._waiting = self._waiting, defaultdict(list)
        while waiting:
            self._join({s: waiting.pop(s) for s in _connected(waiting)})

    def _join(self, parts: dict[Shared, list[Contribution]]) -> None:
        (target, first), *others = parts.items()
        joined = None if others or target.region is None else _joined(first)
        if joined is not None:
            self.take(target, joined)
            return
        names = sorted({name for s in parts for name in s.leaves})
        step = max(1, BUDGET // max(1, sum(self._params[n].numel() for n in names)))
        for start in range(0, first[0].samples, step):
            rows = slice(start, start + step)
            self.take_dense(self._dense(names, parts, rows), rows)

    def _dense(self, names: list[str], parts: Mapping[Shared, list[Contribution]], rows: slice) -> dict[str, Tensor]:
        """Per-sample gradients of the parameters ``names`` from all their contributions."""
        count = len(range(*rows.indices(next(iter(parts.values()))[0].samples)))
        grads = {n: _batch_of(self._params[n], count) for n in names}
        for target, contributions in parts.items():
            dtype = wide(self._params[target.leaves[0]])
            dense = functools.reduce(torch.add, (c.dense(rows, dtype) for c in contributions))
            if target.region is not None:
                target.region.of(grads[target.region.name]).add_(dense)
                continue
            for name, pulled in self._pull(target, dense).items():
                grads[name] += pulled
        return grads

    def _pull(self, target: Shared, dense: Tensor) -> dict[str, Tensor]:
        """Per-sample gradients of a computed tensor, brought back to its parameters."""
        leaves = [self._shared.leaves[n].shadow for n in target.leaves]
        seeds = dense.to(target.shadow.dtype)
        found = torch.autograd.grad(
            target.shadow, leaves, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        return {n: g for n, g in zip(target.leaves, found, strict=True) if g is not None}


def wide(p: Tensor) -> torch.dtype:
    """The precision of sums over samples: float64 for float64 parameters, else float32."""
    return torch.float64 if p.dtype == torch.float64 else torch.float32


def _connected(waiting: Mapping[Shared, list]) -> list[Shared]:
    """The first waiting tensor and all that share a parameter with it, directly or through others."""
    group: list[Shared] = []
    names = set(next(iter(waiting)).leaves)
    while True:
        found = [s for s in waiting if names & set(s.leaves)]
        if len(found) == len(group):
            return group
        group, names = found, names | {n for s in found for n in s.leaves}


def _joined(parts: list[Contribution]) -> Outer | None:
    """All uses of one weight as one longer sequence, where all of them are outer products."""
    outer = [p for p in parts if isinstance(p, Outer)]
    same = len(outer) == len(parts) and len({p.transposed for p in outer}) == 1
    return Outer.joined(outer) if same else None


def _batch_of(x: Tensor, count: int) -> Tensor:
    """Zeros [count, *shape] whose slices have the strides of ``x``."""
    zeros = torch.zeros(count * x.numel(), dtype=wide(x), device=x.device)
    return zeros.as_strided((count, *x.shape), (x.numel(), *x.stride()))
