"""GDumb: gather a memory balanced over the classes, and train from scratch on nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class MemoryOnly(Replay):
    """Fills a class-balanced memory before each task, puts the model back to its first weights and trains on it alone.

    rows  rows per step; None takes the batch size of the learner
    """

    def __init__(self, capacity: int, *, rows: int | None = None) -> None:
        super().__init__(capacity, rows=rows, policy="class_balanced")
        self.start_: dict[str, Tensor] = {}  # parameters and buffers that the model was given

    def before_task(self, learner: Learner, task: Task) -> None:
        super().before_task(learner, task)
        self._start_afresh(learner.model)
        for batch in learner.task_loader():
            if batch.target.ndim != 1:
                raise InputError(
                    f"gdumb: expected one class per row, got targets {tuple(batch.target.shape)}; it balances a memory "
                    "over classes, so choose another method for generated answers."
                )
            self.memory_.add(batch)

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        return self.draw(learner, batch, self.rows or learner.batch_size).to(batch.device)

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        """Everything was offered before the task."""

    def state_dict(self) -> dict[str, Any]:
        return {"memory": super().state_dict(), "start": dict(self.start_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state["memory"])
        self.start_ = dict(state["start"])

    @torch.no_grad()
    def _start_afresh(self, model: torch.nn.Module) -> None:
        """What has grown since keeps, where it is new, the values that it was made with."""
        for name, x in model.state_dict().items():
            first = self.start_.get(name)
            if first is not None:
                x[tuple(slice(0, n) for n in first.shape)] = first.to(x.device)
            self.start_[name] = x.clone()


@recipe(
    family="replay",
    paper="A. Prabhu, P. H. S. Torr, P. K. Dokania, GDumb: A Simple Approach that Questions Our Progress in Continual "
    "Learning, ECCV 2020",
)
def gdumb(capacity: int = 200, rows: int | None = None) -> list[Part]:
    """Training from scratch on a class-balanced memory, for every task anew: nothing is learned continually.

    loss = cross_entropy(scores[memory], target[memory])

    capacity  rows of the memory (its k; 200 as for the other methods of this package)
    rows      rows per step; None takes the batch size (16 in the paper)

    Before a task its rows are offered to the memory, which holds every class equally often and is a uniform sample
    within a class; the paper's greedy sampler keeps the first that come and evicts at random from the largest class.
    The model then goes back to the weights that it was given: random ones for a new model. It is trained for as many
    steps as the task would take any other method, on rows drawn from the memory; the rows of the task itself are passed
    over. The paper trains for 256 epochs over the memory with SGD, a learning rate that falls from 0.05 to 0.0005 by
    cosines with restarts, gradients clipped at 10, and CutMix: here optimizer, constant rate, clipping and the number
    of steps are the Learner's, and nothing is augmented.

    Reference: Prabhu, Torr, Dokania, ECCV 2020, section 3 and algorithm 1.
    """
    return [MemoryOnly(capacity, rows=rows), CrossEntropy()]
