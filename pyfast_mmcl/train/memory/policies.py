"""Which rows a memory keeps. A policy gives every row a key, and a group where memory is shared between groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.ops.sampling import herding, reservoir_keys, weighted_keys


@dataclass(frozen=True)
class Candidates:
    """What a policy of one's own sees of N rows: key, id, target, task, and {modality: bool [N]} presence."""

    keys: Tensor
    index: Tensor
    target: Tensor
    task: Tensor
    present: dict[str, Tensor]


class Policy(Protocol):
    """A policy of one's own: which rows a memory keeps.

    ``rank(seed, batch)`` gives an int64 key [B] per row, a function of (seed, row) alone. ``may_enter(keys, kept)``
    says which new rows (bool [B]) have a chance against the keys of a full memory; True is always correct.
    ``keep(candidates, capacity)`` gives the positions to keep, best first, among the rows of the memory followed by
    the new ones.
    """

    def rank(self, seed: int, batch: Batch) -> Tensor: ...

    def may_enter(self, keys: Tensor, kept: Tensor) -> Tensor: ...

    def keep(self, candidates: Candidates, capacity: int) -> Tensor: ...


class KeyPolicy:
    """The rows with the largest keys stay, ties by the smaller id; with groups, an equal share of rows each.

    Shares are those of ``ops.sampling.balanced_allocation``: no group has more rows than were offered of it, what does
    not divide goes to smaller group numbers. A share only ever shrinks once its group has lost a row, so that the
    contents are a function of the set of rows ever offered.
    """

    name = ""
    grouped = False  # whether ``groups`` gives numbers
    whole = False  # keys depend on all rows offered together, not on each alone
    arrival = False  # the order of arrival decides, not keys
    sorted_by = "key"  # order of the rows in the memory: "key" (and group) best first, or "id"
    ranked_by: str | None = None  # extra whose update ranks a row anew
    draws_by: str | None = None  # extra that ``Memory.sample`` draws in proportion to, unless told otherwise
    beta: float | None = None  # exponent of the importance weights of such draws

    def rank(self, seed: int, batch: Batch) -> Tensor:
        """int64 [B], larger is better; ``batch.extras`` has the extras and hints of ``Memory.add``."""
        return reservoir_keys(seed, batch.index)

    def groups(self, batch: Batch) -> Tensor:
        """Group numbers int64 [B], where ``grouped``."""
        raise NotImplementedError

    def features(self, batch: Batch) -> Tensor:
        """What ``rank_together`` needs of every row [B, D], where keys depend on the ``whole`` of an offer."""
        raise NotImplementedError

    def rank_together(self, features: Tensor, index: Tensor, groups: Tensor, most: int) -> Tensor:
        """int64 [B] of different ids offered together; at most ``most`` rows are kept."""
        raise NotImplementedError


class Reservoir(KeyPolicy):
    """A uniform sample without replacement of everything ever offered: the largest hash keys of (seed, id).

    Contents depend on (seed, the set of offered ids) alone: not on order, batch size, epochs or interruptions.
    """

    name = "reservoir"


class Ring(KeyPolicy):
    """The rows that came last, newest first: a new id pushes out the oldest row.

    The one policy for which the order of the stream matters (how it is cut into batches does not). An id is new when
    the memory does not hold it; an id that has been pushed out may come back.
    """

    name, arrival = "ring", True


class Weighted(KeyPolicy):
    """A weighted sample without replacement: the largest ``log(u) / weight``, u a hash of (seed, id) in (0, 1).

    Row weights are the extra or hint "weight", at least 0; a row of weight 0 stays only while there is room. Reference:
    Efraimidis and Spirakis, Information Processing Letters 97, 2006.
    """

    name, ranked_by = "weighted", "weight"

    def rank(self, seed: int, batch: Batch) -> Tensor:
        weight = _number(batch, "weight", self.name).to(torch.float64)
        return _sortable(weighted_keys(seed, batch.index, weight))


class Balanced(KeyPolicy):
    """Reservoirs of one size per group: a uniform sample within each class, task or group.

    by  "target", "task", the name of an extra or hint (integers [B]), a tuple of such names for their cross product,
        or a function of a Batch that gives int64 [B]; group numbers lie in [−2³¹, 2³¹) where they are crossed
    """

    grouped = True

    def __init__(self, by: str | tuple[str, ...] | Callable[[Batch], Tensor] = "target", *, name: str = "") -> None:
        self.by = by
        self.name = name or "group_balanced"

    def groups(self, batch: Batch) -> Tensor:
        if callable(self.by):
            return _whole(self.by(batch), self.name, "the groups", len(batch))
        names = (self.by,) if isinstance(self.by, str) else self.by
        columns = [_whole(_column(batch, n, self.name), self.name, n, len(batch)) for n in names]
        group = columns[0]
        for column in columns[1:]:
            group = (group << 32) + column
        return group


class Herding(Balanced):
    """The rows whose mean feature is nearest to that of their class, an equal share per class.

    Offer a class as one batch, with features [B, D] as an extra or hint (a hint is not stored). Its rows are ranked by
    ``ops.sampling.herding``; when shares shrink, each class keeps the front of its order. Where a class is offered in
    parts, the first choices of every part come before the second ones.

    normalize  L2-normalise features first (default, as the paper). Reference: Rebuffi et al., iCaRL, CVPR 2017, alg. 4.
    """

    whole = True

    def __init__(self, by: str | tuple[str, ...] | Callable[[Batch], Tensor] = "target", *, normalize: bool = True):
        super().__init__(by, name="herding")
        self.normalize = normalize

    def features(self, batch: Batch) -> Tensor:
        features = _column(batch, "features", self.name)
        if features.ndim < 2 or not features.is_floating_point():
            raise InputError(
                f"memory: policy 'herding' expected floating features [B, D], got {list(features.shape)} "
                f"{features.dtype}."
            )
        return features.flatten(1)

    def rank_together(self, features: Tensor, index: Tensor, groups: Tensor, most: int) -> Tensor:
        by_id = index.argsort()  # equal choices go to the smaller id
        _, groups = groups[by_id].unique(return_inverse=True)
        picks = min(most, len(index))
        features = features[by_id.to(features.device)]
        order = herding(features, picks, groups=groups.to(features.device), normalize=self.normalize).cpu()
        place = torch.full_like(groups, picks)
        position = torch.arange(picks).expand_as(order)
        place[order[order >= 0]] = position[order >= 0]
        return -torch.zeros_like(place).scatter_(0, by_id, place)


class Priority(KeyPolicy):
    """The rows of the largest priority, drawn in proportion to it (prioritised replay).

    Priorities are the extra "priority" [B], at least 0 (raised to a power of one's own: p = |error|^α); rewrite them
    with ``Memory.update``. Equal ones are kept as a reservoir would. A draw brings importance weights
    ``(len · p / Σp)^−beta``, relative to the largest in the memory, as the extra "weight". Rows are in the order of
    their ids.

    beta  0.4 as in the paper. Reference: Schaul et al., Prioritized Experience Replay, ICLR 2016, eq. 1 and § 3.4.
    """

    name, sorted_by, ranked_by, draws_by = "priority", "id", "priority", "priority"

    def __init__(self, *, beta: float | None = 0.4) -> None:
        self.beta = beta

    def rank(self, seed: int, batch: Batch) -> Tensor:
        priority = _number(batch, "priority", self.name).to(torch.float32)
        # The bits of floats that are not negative sort as the floats do; the hash decides between equal ones.
        bits = (priority + 0.0).view(torch.int32).to(torch.int64) << 32
        return bits + ((reservoir_keys(seed, batch.index) >> 32) & 0xFFFFFFFF)


def _column(batch: Batch, name: str, policy: str) -> Tensor:
    found = {"target": batch.target, "task": batch.task, **batch.extras}.get(name)
    if found is None:
        raise InputError(
            f"memory: policy {policy!r} needs {name!r} of every row; add it as extras={{{name!r}: …}} or, if it need "
            f"not be stored, as hints={{{name!r}: …}}."
        )
    return found


def _whole(column: Tensor, policy: str, name: str, rows: int) -> Tensor:
    if column.shape != (rows,) or column.is_floating_point() or column.is_complex():
        raise InputError(
            f"memory: policy {policy!r} expected one integer per row in {name}, got {tuple(column.shape)} "
            f"{column.dtype}; give a group number [B]."
        )
    return column.to(torch.int64)


def _number(batch: Batch, name: str, policy: str) -> Tensor:
    column = _column(batch, name, policy)
    if column.shape != (len(batch),) or not bool((torch.isfinite(column) & (column >= 0)).all()):
        raise InputError(f"memory: policy {policy!r} expected a finite {name} of at least 0 per row [B].")
    return column


def _sortable(x: Tensor) -> Tensor:
    """float64 → int64 in the same order."""
    bits = (x + 0.0).view(torch.int64)
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)


def class_balanced() -> Balanced:
    """An equal share per class."""
    return Balanced("target", name="class_balanced")


def task_balanced() -> Balanced:
    """An equal share per task."""
    return Balanced("task", name="task_balanced")


POLICIES: dict[str, Callable[..., KeyPolicy]] = {
    "reservoir": Reservoir,
    "ring": Ring,
    "class_balanced": class_balanced,
    "task_balanced": task_balanced,
    "group_balanced": Balanced,
    "herding": Herding,
    "priority": Priority,
    "weighted": Weighted,
}
