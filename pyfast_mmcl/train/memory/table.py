"""Which rows a memory holds: id, key, group and slot of each, in the order of the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import CheckpointError
from pyfast_mmcl.train.memory.fifo import entering
from pyfast_mmcl.train.memory.policies import KeyPolicy

if TYPE_CHECKING:
    from pyfast_mmcl.train.memory.offer import Offer

_NOTHING = np.zeros(0, dtype=np.int64)
# Below this many comparisons all pairs are compared, which is cheaper than sorting.
_PAIRS = 1 << 18


class Table:
    """int64 columns ``index``, ``keys``, ``groups`` and ``slots`` of the rows held, in order; on the CPU.

    The order is a function of the rows held: by (place in the group, group) best first, so that the front of it is
    what a smaller memory would hold; by id where the policy says so. ``version`` counts changes.
    """

    def __init__(self) -> None:
        self.index = self.keys = self.groups = self.slots = _NOTHING
        self.version = 0
        self._by_id: np.ndarray | None = None
        self._worst: tuple[np.ndarray, np.ndarray] | None = None
        self._closed = _NOTHING  # groups that have lost a row: their share grows no more
        self._losing = _NOTHING  # groups that lose one if what was last decided comes true

    def __len__(self) -> int:
        return len(self.slots)

    def chance(self, keys: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """Positions of the rows that may enter a full table, ascending. No row that would enter is left out."""
        if groups is None:
            return np.flatnonzero(keys >= self._worst_key())
        known, worst = self._worst_of_groups()
        place, held = _find(known, groups)
        closed = _find(self._closed, groups)[1]
        return np.flatnonzero(np.where(held, (keys >= worst[place]) | ~closed, ~closed))

    def unknown(self, index: np.ndarray) -> np.ndarray:
        """Positions of the first row of every id that the table does not hold, ascending."""
        _, first = np.unique(index, return_index=True)
        first.sort()
        return first[self.places(index[first]) < 0]

    def places(self, index: np.ndarray) -> np.ndarray:
        """Place of every id in the order, −1 where the table does not hold it."""
        if len(self) == 0:
            return np.full(len(index), -1)
        if self._by_id is None and len(index) * len(self) <= _PAIRS:
            equal = index[:, None] == self.index
            return np.where(equal.any(1), equal.argmax(1), -1)
        if self._by_id is None:
            self._by_id = np.argsort(self.index)
        place = np.minimum(np.searchsorted(self.index, index, sorter=self._by_id), len(self) - 1)
        found = self._by_id[place]
        return np.where(self.index[found] == index, found, -1)

    def keep(
        self, policy: KeyPolicy, capacity: int, index: np.ndarray, keys: np.ndarray, groups: np.ndarray | None
    ) -> np.ndarray:
        """Rows to hold from now on, in order: places of the table, then len + position among those offered.

        Ids are new to the table and different, except for a policy of arrival, which finds that out itself.
        """
        if policy.arrival:
            return self._newest(capacity, index)
        keys, index = np.concatenate([self.keys, keys]), np.concatenate([self.index, index])
        if groups is None:
            order = self._merged(keys, index) if policy.sorted_by == "key" else np.lexsort((index, ~keys))
        else:
            groups = np.concatenate([self.groups, groups])
            order = _grouped(keys, index, groups)
            self._losing = groups[order[capacity:]]
        kept = order[:capacity]
        return kept[np.argsort(index[kept])] if policy.sorted_by == "id" else kept

    def close(self) -> None:
        """What ``keep`` last decided has come true: groups that lost a row get no larger share."""
        if len(self._losing):
            self._closed, self._losing = np.union1d(self._closed, self._losing), _NOTHING

    def commit(self, offer: Offer, slots: np.ndarray) -> None:
        """Hold the rows that an offer keeps; ``slots`` of those that enter."""
        self.close()
        place = np.full(len(offer.index), -1)
        place[offer.entering] = slots
        self.index = np.concatenate([self.index, offer.index])[offer.kept]
        self.keys = np.concatenate([self.keys, offer.keys])[offer.kept]
        if offer.groups is not None:
            self.groups = np.concatenate([self.groups, offer.groups])[offer.kept]
        self.slots = np.concatenate([self.slots, place])[offer.kept]
        self._changed()

    def rekey(self, reorder: bool, places: np.ndarray, keys: np.ndarray) -> None:
        """New keys for some of the rows held; ``reorder``: they decide the order."""
        self.keys = self.keys.copy()
        self.keys[places] = keys
        if reorder:
            grouped = len(self.groups) > 0
            order = _grouped(self.keys, self.index, self.groups) if grouped else np.lexsort((self.index, ~self.keys))
            self.index, self.keys, self.slots = self.index[order], self.keys[order], self.slots[order]
            self.groups = self.groups[order] if grouped else self.groups
            self._changed()
        self._worst = None

    def load(self, policy: object, state: dict[str, Any]) -> None:
        """Hold the rows of a state in slots 0, 1, …. Raises CheckpointError when they are not what a table gives."""
        columns = {name: state[name] for name in ("index", "keys", "groups") if name in state}
        rows = len(columns["index"])
        for name, x in columns.items():
            if not isinstance(x, Tensor) or x.dtype != torch.int64 or x.shape != (rows,):
                raise CheckpointError(f"memory: the state is damaged: {name} is not one integer for each of its rows.")
        self.index, self.keys = columns["index"].cpu().numpy().copy(), columns["keys"].cpu().numpy().copy()
        self.groups = columns["groups"].cpu().numpy().copy() if "groups" in columns else _NOTHING
        self.slots = np.arange(rows)
        if len(np.unique(self.index)) < rows:
            raise CheckpointError("memory: the state is damaged: it holds an id twice.")
        if isinstance(policy, KeyPolicy) and not policy.arrival:
            order = np.lexsort((self.index, ~self.keys))
            if policy.sorted_by == "id":
                order = np.argsort(self.index)
            elif "groups" in columns:
                order = _grouped(self.keys, self.index, self.groups)
            if (order != self.slots).any():
                raise CheckpointError("memory: the state is damaged: its rows are not in the order of the policy.")

    def _changed(self) -> None:
        self._by_id = self._worst = None
        self.version += 1

    def _merged(self, keys: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Order of held and offered rows by (key, largest first; id)."""
        old = ~self.keys  # ascending; −keys would overflow
        new = ~keys[len(old) :]
        by_key = np.argsort(new)
        place = np.searchsorted(old, new[by_key], side="right")
        if _repeated(old, new[by_key], place):
            return np.lexsort((index, ~keys))
        return np.insert(np.arange(len(old)), place, len(old) + by_key)

    def _newest(self, capacity: int, index: np.ndarray) -> np.ndarray:
        came = entering(self.index[::-1], index, capacity)[::-1][:capacity]
        return np.concatenate([len(self) + came, np.arange(min(len(self), capacity - len(came)))])

    def _worst_key(self) -> np.ndarray:
        if self._worst is None:
            self._worst = (_NOTHING, self.keys.min())
        return self._worst[1]

    def _worst_of_groups(self) -> tuple[np.ndarray, np.ndarray]:
        if self._worst is None:
            known, place = np.unique(self.groups, return_inverse=True)
            worst = np.full(len(known), np.iinfo(np.int64).max)
            np.minimum.at(worst, place, self.keys)
            self._worst = (known, worst)
        return self._worst


def _find(ascending: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of each value among ``ascending`` ones, and whether it is there."""
    if len(ascending) == 0:
        return np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return place, ascending[place] == values


def _repeated(old: np.ndarray, new: np.ndarray, place: np.ndarray) -> bool:
    """Whether a key of the sorted ``new`` occurs twice, there or in ``old``."""
    if len(new) > 1 and (new[1:] == new[:-1]).any():
        return True
    before = place > 0
    return bool((old[place[before] - 1] == new[before]).any())


def _grouped(keys: np.ndarray, index: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Order by (place in the group by key and id, group): its front of any length has equal shares."""
    by_group = np.lexsort((index, ~keys, groups))
    ordered = groups[by_group]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else _NOTHING
    sizes = np.diff(np.r_[first, len(ordered)])
    rank = np.arange(len(ordered)) - np.repeat(first, sizes)
    return by_group[np.lexsort((ordered, rank))]
