"""One step: the forward pass of all rows in parts and over processes, the backward pass, the update."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import Output
from pyfast_mmcl.ops.sampling import fold_seed
from pyfast_mmcl.train.isolate import seed_torch
from pyfast_mmcl.train.precision import Precision
from pyfast_mmcl.train.processes import Processes

if TYPE_CHECKING:
    from torch.optim import Optimizer

_HALF = (torch.float16, torch.bfloat16)
# Places of the parts of a step in the tree of seeds, behind those that a step takes itself.
_PARTS = 2


class Stepper:
    """How the rows of a step go through the model: in W · ``accumulate`` parts, W processes, one part after the other.

    The loss is always that of the whole batch, whatever the parts. With ``accumulate`` above 1 the parts first go
    through without gradients; the loss gives the gradient of every answer, and each part goes through again to carry
    its own back (Gao et al., arXiv:2101.06983, §3.2). It costs a second forward pass, and holds the activations of one
    part at a time. A layer that mixes the rows of a batch, such as BatchNorm, mixes those of a part.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        precision: Precision,
        processes: Processes,
        *,
        accumulate: int = 1,
        clip_norm: float | None = None,
    ) -> None:
        self.model, self.device = model, device
        self.precision, self.processes = precision, processes
        self.accumulate, self.clip_norm = accumulate, clip_norm
        self._pending: list[tuple[Batch, int, Output]] = []

    def forward(self, batch: Batch) -> Output:
        """The model's answer for a batch, all of it in this process; its tensors in float32 at least."""
        with self.precision.autocast():
            out = self.model(batch)
        out = out if isinstance(out, Output) else Output(out)
        if not isinstance(out.scores, Tensor) or out.scores.ndim < 2 or len(out.scores) != len(batch):
            got = tuple(out.scores.shape) if isinstance(out.scores, Tensor) else type(out.scores).__name__
            raise InputError(f"model: expected an Output or scores [B, C] with B = {len(batch)} rows, got {got}.")
        # Losses are taken in float32, whatever precision the model computes in.
        if self.precision.name == "no":
            return replace(out, scores=out.scores.float()) if out.scores.dtype in _HALF else out
        return out.map(lambda x: x.float() if x.dtype in _HALF else x)

    @torch.no_grad()
    def shared(self, batch: Batch) -> Output:
        """``forward`` without gradients, the rows shared out to the processes; all of them call it together."""
        if self.processes.world == 1:
            return self.forward(batch)
        size = -(-len(batch) // self.processes.world)
        out = self.forward(_part(batch, self.processes.rank, size))
        return out.map(lambda x: self.processes.rows_of_all(x)[: len(batch)])

    def answer(self, batch: Batch, seed: int) -> Output:
        """The answers for all rows, to take the loss of. ``seed`` is that of the step's random layers."""
        count = self.processes.world * self.accumulate
        if count == 1:
            return self.forward(batch)
        size, first = -(-len(batch) // count), self.processes.rank * self.accumulate
        parts = [(_part(batch, k, size), fold_seed(seed, _PARTS + k)) for k in range(first, first + self.accumulate)]
        out = self._seeded(*parts[0]) if self.accumulate == 1 else self._look_ahead(parts)
        # What the parts of a method draw from torch's own generator afterwards is the same in all processes.
        seed_torch(self.device, fold_seed(seed, _PARTS + count))
        return out.map(lambda x: self.processes.gather(x)[: len(batch)])

    def backward(self, total: Tensor) -> None:
        """Gradients of the scalar ``total`` in ``p.grad``, the same in all processes."""
        self.precision.backward(total)
        for rows, seed, leaves in self._pending:
            out = self._seeded(rows, seed)
            ends = [
                (x, leaf.grad)
                for x, leaf in zip(_tensors(out), _tensors(leaves), strict=True)
                if x.requires_grad and leaf.grad is not None
            ]
            if ends:
                torch.autograd.backward([x for x, _ in ends], [g for _, g in ends])
        self._pending = []
        self.processes.average_gradients(self.model.parameters())

    def update(self, optimizer: Optimizer) -> None:
        """Clip the gradients, which are unscaled, and take the step."""
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.precision.step(optimizer)

    def _seeded(self, rows: Batch, seed: int) -> Output:
        seed_torch(self.device, seed)
        return self.forward(rows)

    def _look_ahead(self, parts: list[tuple[Batch, int]]) -> Output:
        """The answers of all parts as leaves of the graph, whose gradients ``backward`` carries on."""
        kept = {name: x.clone() for name, x in self.model.named_buffers()}
        with torch.no_grad():
            outs = [self._seeded(*part) for part in parts]
            # A running mean takes every row once: on the pass that counts.
            for name, x in self.model.named_buffers():
                if name in kept and x.shape == kept[name].shape:
                    x.copy_(kept[name])
        leaves = [out.map(lambda x: x.detach().requires_grad_(x.is_floating_point())) for out in outs]
        self._pending = [(rows, seed, out) for (rows, seed), out in zip(parts, leaves, strict=True)]
        return _joined(leaves)


def _part(batch: Batch, number: int, size: int) -> Batch:
    """Part ``number`` of equally large parts of ``batch``; the last row stands in where there are none left."""
    rows = torch.arange(number * size, (number + 1) * size, device=batch.device).clamp(max=len(batch) - 1)
    return Batch(
        {m: x[rows] for m, x in batch.inputs.items()},
        batch.target[rows],
        batch.task[rows],
        {m: p[rows] for m, p in batch.present.items()},
        batch.index[rows],
    )


def _tensors(out: Output) -> list[Tensor]:
    found: list[Tensor] = []

    def note(x: Tensor) -> Tensor:
        found.append(x)
        return x

    out.map(note)
    return found


def _joined(outs: list[Output]) -> Output:
    columns = zip(*(_tensors(out) for out in outs), strict=True)
    joined = iter([torch.cat(column) for column in columns])
    return outs[0].map(lambda x: next(joined))
