"""Maximally interfered retrieval: replay the rows that the coming step would hurt most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfast_mmcl._errors import number_above_zero, whole_number
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.virtual import gradients, row_losses, stepped

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch
    from pyfast_mmcl.train.learner import Learner

# 10 of 50 in the paper.
_CANDIDATES_PER_ROW = 5


class InterferedReplay(Replay):
    """Replay of those of the ``candidates`` drawn whose loss grows most by a virtual step on the fresh rows."""

    def __init__(self, capacity: int, *, rows: int | None, candidates: int | None, virtual_lr: float) -> None:
        super().__init__(capacity, rows=rows)
        self.candidates = None if candidates is None else whole_number("candidates", candidates)
        self.virtual_lr = number_above_zero("virtual_lr", virtual_lr)

    def draw(self, learner: Learner, batch: Batch, n: int) -> Batch:
        several = self.candidates or _CANDIDATES_PER_ROW * n
        rows = self.memory_.sample(several, learner.generator).to(batch.device)
        if len(rows) <= n:
            return rows
        gradient = gradients(learner, batch.select(slice(0, batch.fresh)))
        growth = row_losses(learner, rows, stepped(learner, gradient, self.virtual_lr)) - row_losses(learner, rows)
        return rows.select(growth.argsort(descending=True, stable=True)[:n])


@recipe(
    family="replay",
    paper="R. Aljundi et al., Online Continual Learning with Maximally Interfered Retrieval, NeurIPS 2019",
)
def mir(
    capacity: int = 200, rows: int | None = None, candidates: int | None = None, virtual_lr: float = 0.1
) -> list[Part]:
    """Experience replay of the rows whose loss would grow most by a step on the fresh rows alone.

    loss = cross_entropy(scores[fresh + memory], target[fresh + memory])
    memory = the rows of a random draw with the largest ℓ(θ − virtual_lr · ∂ℓ(fresh)/∂θ) − ℓ(θ)

    capacity    rows of the memory
    rows        rows replayed per step; None replays as many as the batch has, as in the paper
    candidates  rows drawn to choose from; None draws five times ``rows``, the paper's 50 for 10
    virtual_lr  learning rate of the virtual step of plain SGD (0.1, the learning rate of the authors' code by default);
                the Learner's own step may be of another optimizer

    This is the first of the paper's two criteria (s_MI-1), without the memory of each row's lowest loss. The gradient
    of the virtual step is taken in training mode, the two losses in evaluation mode, so that dropout and BatchNorm do
    not blur their difference; the authors' code has one mode for all. It also leaves rows of the current task out of
    the candidates, which algorithm 1 and ours do not, and adds the means of the two halves of the loss. Each step costs
    one more forward and backward pass of the fresh rows and two forward passes of the candidates.

    Reference: Aljundi et al., NeurIPS 2019, section 3.1 and algorithm 1.
    """
    part = InterferedReplay(capacity, rows=rows, candidates=candidates, virtual_lr=virtual_lr)
    return [part, CrossEntropy()]
