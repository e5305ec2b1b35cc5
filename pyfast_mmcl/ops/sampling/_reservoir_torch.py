"""The reservoir of a stream in plain torch, on any device: the truth for the compiled one."""

from __future__ import annotations

import torch
from torch import Tensor

from .keys import reservoir_keys
from .merge import first_of_each, in_order, within_shares
from .weighted import weighted_keys_reference


class ReservoirReference:
    """Index, key and group of every slot; see `Reservoir` for what it keeps."""

    def __init__(self, capacity: int, seed: int, weighted: bool = False, device: torch.device | str = "cpu") -> None:
        self.capacity, self.seed, self.weighted = capacity, seed, weighted
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        self._index, self._groups = empty, empty
        self._keys = empty.to(torch.float64) if weighted else empty

    def __len__(self) -> int:
        return len(self._index)

    def state(self) -> tuple[Tensor, Tensor, Tensor]:
        """Copies of index, keys and groups per slot."""
        return self._index.clone(), self._keys.clone(), self._groups.clone()

    def load(self, index: Tensor, keys: Tensor, groups: Tensor) -> None:
        """Put back what `state` gave."""
        self._index, self._keys, self._groups = index.clone(), keys.clone(), groups.clone()

    def order(self) -> Tensor:
        """Slots by key, best first; ties by smaller id."""
        return in_order(self._keys, self._index)

    def offer(
        self, index: Tensor, groups: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows of the batch that are in now and were not before, ascending, and their slots."""
        keys, rows = self._promising(index, groups, weights)
        names = torch.zeros_like(index) if groups is None else groups
        if len(rows) == 0:
            return rows, rows
        rows = rows[in_order(keys[rows], index[rows])]
        rows = rows[first_of_each(index[rows])]
        rows = rows[self._unknown(index[rows], keys[rows])]
        if len(rows) == 0:
            return rows, rows
        return self._take(rows.sort().values, index, keys, names)

    def _promising(self, index: Tensor, groups: Tensor | None, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys [B] of a batch, and the rows that may enter, ascending."""
        if weights is None:
            keys = reservoir_keys(self.seed, index)
        else:
            keys = weighted_keys_reference(self.seed, index, weights)
        names = torch.zeros_like(index) if groups is None else groups
        return keys, self._chance(keys, names).nonzero().flatten()

    def _chance(self, keys: Tensor, groups: Tensor) -> Tensor:
        """bool [B]: rows that may enter; late in a stream hardly any, and nothing is sorted for the others."""
        if len(self) < self.capacity:
            return torch.ones_like(keys, dtype=torch.bool)
        names, member, counts = self._groups.unique(return_inverse=True, return_counts=True)
        worst = self._keys.new_full((len(names),), _top(self._keys)).scatter_reduce(0, member, self._keys, "amin")
        # A row ranked last in its group enters only where its seat comes before the last one given.
        last = int(counts.max())
        last_group = int((counts == last).nonzero().max())
        seat = counts + 1
        here = torch.arange(len(names), device=names.device)
        grows = (seat < last) | ((seat == last) & (here < last_group))
        place = torch.searchsorted(names, groups).clamp(max=len(names) - 1)
        known = names[place] == groups
        return ~known | grows[place] | (keys >= worst[place])

    def _unknown(self, index: Tensor, keys: Tensor) -> Tensor:
        """bool [A]: ids that no slot holds; a held one offered with a larger key (another weight) gets that key."""
        ids, slots = self._index.sort()
        if len(ids) == 0:
            return torch.ones_like(index, dtype=torch.bool)
        place = torch.searchsorted(ids, index).clamp(max=len(ids) - 1)
        held = ids[place] == index
        at = slots[place[held]]
        self._keys[at] = torch.maximum(self._keys[at], keys[held])
        return ~held

    def _take(self, rows: Tensor, index: Tensor, keys: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the best of slots and rows; the slots of those that leave go to those that enter, in ascending order."""
        held = len(self)
        all_index = torch.cat([self._index, index[rows]])
        all_keys = torch.cat([self._keys, keys[rows]])
        all_groups = torch.cat([self._groups, groups[rows]])
        order = in_order(all_keys, all_index)
        stays = torch.zeros_like(all_index, dtype=torch.bool)
        stays[order[within_shares(all_groups[order], self.capacity)]] = True
        entered = stays[held:].nonzero().flatten()
        size = min(self.capacity, held + len(rows))
        free = torch.ones(size, dtype=torch.bool, device=index.device)
        free[:held] = ~stays[:held]
        slots = free.nonzero().flatten()
        source = torch.cat([torch.arange(held, device=index.device), slots.new_zeros(size - held)])
        source[slots] = held + entered
        self._index, self._keys, self._groups = all_index[source], all_keys[source], all_groups[source]
        return rows[entered], slots


def _top(keys: Tensor) -> float | int:
    return torch.inf if keys.is_floating_point() else torch.iinfo(keys.dtype).max
