"""Parts that more than one method uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data import Batch, Task, cat
from pyfast_mmcl.train.memory import Memory, Policy
from pyfast_mmcl.train.part import Part

if TYPE_CHECKING:
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

_ROWS = ("all", "fresh", "memory")


class CrossEntropy(Part):
    """weight · cross_entropy(scores[rows], target[rows]), the mean over rows (and positions of generated answers).

    rows: "all", "fresh" (of the current task) or "memory" (replayed).
    """

    def __init__(self, rows: str = "all", *, weight: float = 1.0) -> None:
        if rows not in _ROWS:
            raise unknown_name("choice of rows", rows, _ROWS)
        self.rows = rows
        self.weight = weight

    @property
    def name(self) -> str:
        return "cross_entropy" if self.rows == "all" else f"cross_entropy_{self.rows}"

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        rows = {"all": slice(None), "fresh": slice(0, batch.fresh), "memory": slice(batch.fresh, None)}[self.rows]
        target = batch.target[rows]
        if len(target) == 0:
            return None
        # Looking at a number makes a GPU wait, and its own check of the labels stops the run there.
        if target.device.type == "cpu" and int(target.max()) >= out.scores.shape[-1]:
            raise InputError(
                f"cross-entropy: the model scores {out.scores.shape[-1]} classes and the data has class "
                f"{int(target.max())}; build the model with as many classes as the stream."
            )
        return self.weight * cross_entropy(out.scores[rows].flatten(0, -2), target.flatten())


class Replay(Part):
    """Adds rows of a memory to every batch, and offers the fresh rows to the memory after the step.

    capacity  rows the memory keeps
    rows      rows drawn per step; None draws as many as there are fresh ones
    policy    which rows the memory keeps (name in POLICIES or an object with the methods of Policy)
    """

    def __init__(self, capacity: int, *, rows: int | None = None, policy: str | Policy = "reservoir") -> None:
        self.capacity = capacity
        self.rows = None if rows is None else whole_number("replay rows", rows)
        self.policy = policy
        self.memory_ = Memory(capacity, policy=policy)

    def before_task(self, learner: Learner, task: Task) -> None:
        if len(self.memory_) == 0:
            self.memory_ = Memory(self.capacity, policy=self.policy, seed=learner.seed)

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        if len(self.memory_) == 0:
            return batch
        drawn = self.memory_.sample(self.rows or batch.fresh, learner.generator)
        return cat([batch, drawn.to(batch.device)])

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        self.memory_.add(batch.select(slice(0, batch.fresh)))

    def state_dict(self) -> dict[str, Any]:
        return self.memory_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory_.load_state_dict(state)
