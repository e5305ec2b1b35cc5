"""Parts that more than one method uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data import Batch, Task, cat
from pyfast_mmcl.train.memory import KeyPolicy, Memory, Policy
from pyfast_mmcl.train.part import Part

if TYPE_CHECKING:
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

_ROWS = ("all", "fresh", "memory")


class CrossEntropy(Part):
    """weight · cross_entropy(scores[rows], target[rows]), the mean over rows (and positions of generated answers).

    rows         "all", "fresh" (of the current task) or "memory" (replayed)
    draw, draws  with "memory": only the rows of this one of so many draws
    """

    def __init__(self, rows: str = "all", *, weight: float = 1.0, draw: int = 0, draws: int = 1) -> None:
        if rows not in _ROWS:
            raise unknown_name("choice of rows", rows, _ROWS)
        self.rows = rows
        self.weight = weight
        self.draw, self.draws = draw, draws

    @property
    def name(self) -> str:
        return "cross_entropy" if self.rows == "all" else f"cross_entropy_{self.rows}"

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        old = memory_rows(batch, self.draw, self.draws)
        rows = {"all": slice(None), "fresh": slice(0, batch.fresh), "memory": old}[self.rows]
        target = batch.target[rows]
        if len(target) == 0:
            return None
        check_labels(out.scores, target)
        return self.weight * cross_entropy(out.scores[rows].flatten(0, -2), target.flatten())


class Replay(Part):
    """Adds rows of a memory to every batch, and offers the fresh rows to the memory after the step.

    capacity  rows the memory keeps
    rows      rows of a draw; None draws as many as there are fresh ones
    draws     independent draws per step, equally large, one behind the other in the batch (``memory_rows``); with 0 the
              memory is only filled
    policy    which rows the memory keeps (name in POLICIES, a KeyPolicy, or an object with the methods of Policy)
    memory    further arguments of Memory
    """

    def __init__(
        self,
        capacity: int | None,
        *,
        rows: int | None = None,
        draws: int = 1,
        policy: str | Policy | KeyPolicy = "reservoir",
        **memory: Any,
    ) -> None:
        self.rows = None if rows is None else whole_number("replay rows", rows)
        self.draws = whole_number("draws", draws, least=0)
        self._make = lambda seed: Memory(capacity, policy=policy, seed=seed, **memory)
        self.memory_: Memory = self._make(0)

    def before_task(self, learner: Learner, task: Task) -> None:
        if len(self.memory_) == 0:
            self.memory_ = self._make(learner.seed)

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        if len(self.memory_) == 0:
            return batch
        drawn = [self.draw(learner, batch, self.rows or batch.fresh) for _ in range(self.draws)]
        return cat([batch, *(rows.to(batch.device) for rows in drawn)])

    def draw(self, learner: Learner, batch: Batch, n: int) -> Batch:
        """At most ``n`` rows of the memory for this step."""
        return self.memory_.sample(n, learner.generator)

    def extras(self, learner: Learner, batch: Batch, out: Output) -> dict[str, Tensor]:
        """What is stored beside the fresh rows, {name: [fresh, …]}; drawn rows bring it in ``batch.extras``."""
        return {}

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        self.memory_.add(batch.select(slice(0, batch.fresh)), self.extras(learner, batch, out))

    def state_dict(self) -> dict[str, Any]:
        return self.memory_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory_.load_state_dict(state)


def memory_rows(batch: Batch, draw: int = 0, draws: int = 1) -> slice:
    """The rows of memory in ``batch`` that one of ``draws`` equally large draws brought."""
    size = (len(batch) - batch.fresh) // draws
    start = batch.fresh + draw * size
    return slice(start, start + size)


def check_labels(scores: Tensor, target: Tensor) -> None:
    """Raise InputError for a label that has no score. Nothing is looked at on a GPU."""
    # Looking at a number makes a GPU wait, and its own check of the labels stops the run there.
    if target.device.type == "cpu":
        check_classes(scores, [int(target.max())])


def check_classes(scores: Tensor, classes: Sequence[int]) -> None:
    """Raise InputError for one of the ``classes`` that has no score."""
    if max(classes) >= scores.shape[-1]:
        raise InputError(
            f"cross-entropy: the model scores {scores.shape[-1]} classes and the data has class "
            f"{max(classes)}; build the model with as many classes as the stream."
        )
