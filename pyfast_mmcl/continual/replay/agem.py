"""A-GEM: a step may not raise the average loss on the memory, to first order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.virtual import gradients

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class AverageGradient(Replay):
    """g ← g − (g·g_ref / g_ref·g_ref) g_ref where g·g_ref < 0; g_ref is the gradient on a draw of earlier tasks."""

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        return batch

    def edit_grads(self, learner: Learner, batch: Batch) -> None:
        if len(self.memory_) == 0:
            return
        rows = self.draw(learner, batch, self.rows or batch.fresh).to(batch.device)
        reference = gradients(learner, rows)
        if not reference:
            return
        named = {name: p for name, p in learner.model.named_parameters() if name in reference}
        g = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in named.items()}
        # Both products are of P terms that nearly cancel.
        along = torch.stack([_dot(g[name], r) for name, r in reference.items()]).sum()
        share = along / torch.stack([_dot(r, r) for r in reference.values()]).sum()
        for name, p in named.items():
            # An optimizer passes over a weight without gradient; a gradient of zeros would decay it.
            if p.grad is None and not bool(along < 0):
                continue
            projected = g[name] - share.to(g[name].dtype) * reference[name]
            p.grad = torch.where(along < 0, projected, g[name])

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        """Rows enter after their task: the reference is of earlier tasks alone."""

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        for batch in loader:
            self.memory_.add(batch)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b.double()).sum()


@recipe(
    family="replay",
    paper="A. Chaudhry et al., Efficient Lifelong Learning with A-GEM, ICLR 2019",
)
def agem(capacity: int = 200, rows: int | None = None) -> list[Part]:
    """Cross-entropy on every batch, its gradient projected where it conflicts with that of the memory.

    loss = cross_entropy(scores, target)
    g ← g - (g @ g_ref) / (g_ref @ g_ref) * g_ref  where g @ g_ref < 0

    capacity  rows of the memory
    rows      rows per step that g_ref is taken on; None takes as many as the batch has (ours; the paper takes more)

    The memory keeps a reservoir of the earlier tasks' rows, offered when a task ends; the paper's has as many rows of
    every class. The promise is about the step of plain SGD: Adam rescales the projected gradient, and momentum adds
    earlier ones.

    Reference: Chaudhry et al., ICLR 2019, equation 11 and algorithm 2.
    """
    return [CrossEntropy(), AverageGradient(capacity, rows=rows)]
