"""Parts that more than one method uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data import Batch, Loader, Task, cat
from pyfast_mmcl.ops.contrastive import info_nce
from pyfast_mmcl.train.memory import KeyPolicy, Memory, Policy, ReplaySource
from pyfast_mmcl.train.memory.source import FilledSource, LearningSource, SavedSource, check_source
from pyfast_mmcl.train.pairs import are_pairs, pair_labels, pair_scale, two_sides
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
        refuse_pairs(learner)
        rows = self.chosen(batch)
        target = batch.target[rows]
        if len(target) == 0:
            return None
        check_labels(out.scores, target)
        return self.weight * cross_entropy(out.scores[rows].flatten(0, -2), target.flatten())

    def chosen(self, batch: Batch) -> slice:
        """The rows of ``batch`` that the term is about."""
        old = memory_rows(batch, self.draw, self.draws)
        return {"all": slice(None), "fresh": slice(0, batch.fresh), "memory": old}[self.rows]


class Objective(CrossEntropy):
    """What the stream asks to be learnt (``Stream.objective``), from the same rows as CrossEntropy would take.

    "classify"  weight · cross_entropy(scores, target), the mean over rows (and positions of generated answers)
    "pairs"     weight · info_nce(V, T, s): v_i and t_j are a pair where target_i = target_j; V, T the unit embeddings
                of the two sides, s the model's scale (1/0.07 where it has none), over the rows that have both sides

    Rows of one target are positives of each other and never negatives; a batch of fewer than two pairs has no term.
    Arguments as CrossEntropy. Raises InputError for labels without a score, and for a model without two sides.

    Reference: Radford et al., CLIP, ICML 2021; several positives as in Khosla et al., NeurIPS 2020, eq. 2.
    """

    @property
    def name(self) -> str:
        return "objective" if self.rows == "all" else f"objective_{self.rows}"

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if learner.objective == "classify":
            return super().loss(learner, batch, out)
        v, t = two_sides(out)
        taken = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
        taken[self.chosen(batch)] = True
        taken &= are_pairs(batch, out)
        if int(taken.sum()) < 2:
            return None
        labels = pair_labels(batch.target[taken])
        return self.weight * info_nce(v[taken], t[taken], pair_scale(learner.model), labels=labels)


class Replay(Part):
    """Adds rows of earlier tasks to every batch, drawn from a memory of its own or from any other source.

    capacity  rows the memory keeps; the fresh rows are offered to it after every step
    source    a ReplaySource in place of that memory: a generator, or a Memory of one's own. What it can do beyond
              giving rows (``train.memory.source``: be filled, learn after a task, be saved) is asked of it
    rows      rows of a draw; None draws as many as there are fresh ones
    draws     independent draws per step, equally large, one behind the other in the batch (``memory_rows``); with 0 the
              source is only filled
    policy    which rows the memory keeps (name in POLICIES, a KeyPolicy, or an object with the methods of Policy)
    memory    further arguments of Memory

    Raises InputError for a source that gives no rows, and for arguments of a memory beside a source.
    """

    def __init__(
        self,
        capacity: int | None = None,
        *,
        source: ReplaySource | None = None,
        rows: int | None = None,
        draws: int = 1,
        policy: str | Policy | KeyPolicy = "reservoir",
        **memory: Any,
    ) -> None:
        self.rows = None if rows is None else whole_number("replay rows", rows)
        self.draws = whole_number("draws", draws, least=0)
        self.source_: ReplaySource
        self._make: Callable[..., Memory] | None = None
        if source is None:
            # Not a lambda: a checkpoint tells two memories apart by the arguments.
            self._make = partial(Memory, capacity, policy=policy, **memory)
            self.source_ = self._make(seed=0)
        else:
            self.source_ = check_source(source, capacity=capacity, policy=policy, **memory)

    @property
    def memory_(self) -> Memory:
        """The source, where it is a memory. Raises AttributeError where it is something else."""
        if not isinstance(self.source_, Memory):
            raise AttributeError(f"replay: its source is a {type(self.source_).__name__}, there is no memory.")
        return self.source_

    def before_task(self, learner: Learner, task: Task) -> None:
        if self._make is not None and len(self.source_) == 0:
            self.source_ = self._make(seed=learner.seed)

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        if len(self.source_) == 0:
            return batch
        drawn = [self.draw(learner, batch, self.rows or batch.fresh) for _ in range(self.draws)]
        return cat([batch, *(rows.to(batch.device) for rows in drawn)])

    def draw(self, learner: Learner, batch: Batch, n: int) -> Batch:
        """At most ``n`` rows of the source for this step."""
        return self.source_.sample(n, learner.generator)

    def extras(self, learner: Learner, batch: Batch, out: Output) -> dict[str, Tensor]:
        """What is stored beside the fresh rows, {name: [fresh, …]}; drawn rows bring it in ``batch.extras``."""
        return {}

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        if isinstance(self.source_, FilledSource):
            self.source_.add(batch.select(slice(0, batch.fresh)), self.extras(learner, batch, out))

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        if isinstance(self.source_, LearningSource):
            self.source_.learn(learner, task, loader)

    def state_dict(self) -> dict[str, Any]:
        return self.source_.state_dict() if isinstance(self.source_, SavedSource) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.source_, SavedSource):
            self.source_.load_state_dict(state)


def memory_rows(batch: Batch, draw: int = 0, draws: int = 1) -> slice:
    """The rows of memory in ``batch`` that one of ``draws`` equally large draws brought."""
    size = (len(batch) - batch.fresh) // draws
    start = batch.fresh + draw * size
    return slice(start, start + size)


def refuse_pairs(learner: Learner) -> None:
    """Raise InputError for a stream of pairs: towers score no class, so that cross-entropy would teach them nothing."""
    if getattr(learner, "objective", "classify") == "pairs":
        raise InputError(
            "cross-entropy: the stream has pairs to tell apart and no classes to score; choose a method that learns"
            " the stream's own objective, such as er, online_ewc or kdr."
        )


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
