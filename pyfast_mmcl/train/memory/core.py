"""The rows of a memory and everything that happens to them: offered, written, read, rewritten."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory.codecs import Parts
from pyfast_mmcl.train.memory.columns import Column, Key, Store
from pyfast_mmcl.train.memory.draws import Priorities
from pyfast_mmcl.train.memory.offer import Offer, no_chances, numbers
from pyfast_mmcl.train.memory.policies import KeyPolicy, Policy
from pyfast_mmcl.train.memory.table import Table


class Rows:
    """Rows in the slots of a ``store``, listed in a ``table``, kept by a ``policy`` within a budget."""

    def __init__(
        self,
        store: Store,
        policy: Policy | KeyPolicy,
        *,
        seed: int,
        max_rows: int | None,
        max_bytes: int | None,
        device: torch.device,
    ) -> None:
        self.store, self.table, self.policy = store, Table(), policy
        self.seed, self.max_rows, self.max_bytes, self.device = seed, max_rows, max_bytes, device
        self._most = sys.maxsize if max_rows is None else max_rows
        self.priorities = Priorities()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def grouped(self) -> bool:
        return getattr(self.policy, "grouped", False)

    def settings(self) -> dict[str, Any]:
        """What two memories have in common that may exchange states."""
        name = getattr(self.policy, "name", "") or type(self.policy).__name__
        return {"seed": self.seed, "capacity": self.max_rows, "max_bytes": self.max_bytes, "policy": name}

    def row_bytes_of(self, store: Store) -> int:
        """Bytes of a row: what is stored, an int64 id and key, and a group where there are any."""
        return store.row_bytes + (24 if self.grouped else 16)

    def capacity_of(self, row_bytes: int) -> int:
        """Rows that the budget gives when each takes ``row_bytes``."""
        if self.max_bytes is None:
            return self._most
        if row_bytes > self.max_bytes:
            raise InputError(
                f"memory: a row takes {row_bytes} bytes and max_bytes is {self.max_bytes}; give more bytes, "
                f"or store columns in fewer with codecs."
            )
        rows = self.max_bytes // row_bytes
        return min(rows, self._most)

    def capacity(self, new: Mapping[Key, Column]) -> int:
        """Rows that the budget gives, with ``new`` columns."""
        if self.max_bytes is None:
            return self._most
        return self.capacity_of(self.row_bytes_of(self.store) + sum(column.row_bytes for column in new.values()))

    def full(self) -> bool:
        """Whether rows can only enter in the place of others."""
        return bool(self.store.columns) and len(self) >= self.capacity({})

    def slots(self, places: np.ndarray | slice = slice(None)) -> Tensor:
        return torch.from_numpy(self.table.slots[places]).to(self.store.storage.device)

    def batch(self, places: np.ndarray) -> Batch:
        """The rows at ``places`` of the order."""
        if len(self) == 0:
            raise InputError("memory: it is empty and has nothing to give; add rows first.")
        slots, index = self.table.slots[places], self.table.index[places]
        return self.store.batch(torch.from_numpy(slots), torch.from_numpy(index), self.device)

    def make_room(self, offer: Offer, new: Mapping[Key, Column], capacity: int) -> np.ndarray:
        """Slots for the rows that enter: those of rows that leave, then unused ones. Raises where there is no room."""
        stays = self.table.slots[offer.kept[offer.kept < len(self)]]
        return self.store.make_room(stays, len(offer.entering), new, capacity)

    def settle(
        self,
        offer: Offer,
        new: Mapping[Key, Column],
        encoded: dict[Key, Parts | None],
        slots: np.ndarray,
        capacity: int,
    ) -> None:
        """Write the rows that enter. Whatever can go wrong went wrong before."""
        self.store.columns.update(new)
        self.store.write(torch.from_numpy(slots), encoded)
        self.table.commit(offer, slots)
        if self.store.rows > capacity and self.store.pack(self.slots()):
            self.table.slots = np.arange(len(self))

    def shrink(self, capacity: int) -> None:
        """Keep the ``capacity`` rows that the policy likes best."""
        none = no_chances(self.policy)
        kept = np.arange(capacity)  # a policy of one's own gives its rows best first
        if isinstance(self.policy, KeyPolicy):
            kept = self.table.keep(self.policy, capacity, none.index, none.keys, none.groups)
        offer = Offer(none.index, none.keys, none.groups, kept, none.rows, none.rows)
        self.settle(offer, {}, dict.fromkeys(self.store.columns), np.zeros(0, dtype=np.int64), capacity)

    def take(self, store: Store, table: Table, seed: int) -> None:
        """Hold other rows from now on."""
        self.store, self.table, self.seed, self.priorities = store, table, seed, Priorities()

    def rewrite(self, ids: np.ndarray, extras: dict[str, Tensor]) -> None:
        """Rewrite checked ``extras`` of the rows of ``ids`` that are held; the last of equal ids counts."""
        places, last = np.unique(self.table.places(ids)[::-1], return_index=True)
        rows = (len(ids) - 1 - last)[places >= 0]
        places = places[places >= 0]
        chosen = {name: x[torch.from_numpy(rows).to(x.device)] for name, x in extras.items()}
        keys = self._new_keys(ids[rows], chosen)
        encoded = {name: self.store.extra(name).encode(x) for name, x in chosen.items()}
        self.table.slots[places] = self.store.writable(self.table.slots, places)
        self.store.rewrite(self.slots(places), encoded)
        if keys is not None:
            self.table.rekey(getattr(self.policy, "sorted_by", "") == "key", places, keys)
        for name in chosen:
            stored = self.store.extra(name).decode(encoded[name])  # what a resumed memory draws by
            self.priorities.update(self.table.version, name, places, stored)

    def _new_keys(self, index: np.ndarray, extras: dict[str, Tensor]) -> np.ndarray | None:
        ranked_by = getattr(self.policy, "ranked_by", None)
        if ranked_by is None or ranked_by not in extras:
            return None
        ids = torch.from_numpy(index)
        batch = Batch({}, ids, ids, {}, ids, 0, {ranked_by: extras[ranked_by].cpu()})
        return numbers(self.policy.rank(self.seed, batch))
