"""A memory of multimodal examples: contiguous columns, and a policy that says which rows are worth keeping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data import Batch
from pyfast_mmcl.ops.sampling import reservoir_keys
from pyfast_mmcl.train.measure import state_bytes


@dataclass(frozen=True)
class Candidates:
    """What a policy sees of N examples: key, example id, target, task, and {modality: bool [N]} presence."""

    keys: Tensor
    index: Tensor
    target: Tensor
    task: Tensor
    present: dict[str, Tensor]


class Policy(Protocol):
    """Which examples a memory keeps.

    ``rank(seed, batch)`` gives an int64 key [B] per row, a function of (seed, row) alone. ``may_enter(keys, kept)``
    says which new rows (bool [B]) have a chance against the keys of a full memory; True is always correct.
    ``keep(candidates, capacity)`` gives the positions to keep, best first, among the rows of the memory followed by
    the new ones.
    """

    def rank(self, seed: int, batch: Batch) -> Tensor: ...

    def may_enter(self, keys: Tensor, kept: Tensor) -> Tensor: ...

    def keep(self, candidates: Candidates, capacity: int) -> Tensor: ...


class Reservoir:
    """Keep the examples with the largest hash keys: a uniform sample without replacement of everything ever offered.

    Contents depend on (seed, the set of offered ids) alone: not on order, batch size, epochs or interruptions.
    """

    def rank(self, seed: int, batch: Batch) -> Tensor:
        return reservoir_keys(seed, batch.index)

    def may_enter(self, keys: Tensor, kept: Tensor) -> Tensor:
        return keys > kept[-1]

    def keep(self, candidates: Candidates, capacity: int) -> Tensor:
        return candidates.keys.argsort(descending=True)[:capacity]


POLICIES: dict[str, type] = {"reservoir": Reservoir}


class Memory:
    """At most ``capacity`` examples, each id once, with modalities, presence, target, task and extras.

    capacity  rows to keep, at least 1
    policy    name in POLICIES, or an object with the methods of Policy
    seed      with the example ids, it decides the contents
    device    where the columns live and where ``sample`` answers

    Rows are given in the order of the policy, best first: the same contents look the same whatever their history.
    """

    def __init__(
        self, capacity: int, *, policy: str | Policy = "reservoir", seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        if isinstance(policy, str) and policy not in POLICIES:
            raise unknown_name("memory policy", policy, POLICIES)
        self.capacity = whole_number("memory capacity", capacity)
        self.policy: Policy = POLICIES[policy]() if isinstance(policy, str) else policy
        self.seed = seed
        self.device = torch.device(device)
        self._store: Batch | None = None  # rows in the order they came to lie in; some may be unused
        self._keys = torch.empty(0, dtype=torch.int64, device=self.device)  # [len], best first
        self._slots = torch.empty(0, dtype=torch.int64, device=self.device)  # [len], where each row lies in the store

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """Bytes of everything kept."""
        return state_bytes(self.state_dict())

    def add(self, batch: Batch, extras: dict[str, Tensor] | None = None) -> None:
        """Offer all rows of ``batch``; the policy decides which stay. ``extras`` {name: [B, …]} are kept beside them.

        Offering an id again changes nothing. Raises InputError when shapes or dtypes differ from those of the memory.
        """
        rows = _as_old(batch, extras or {})
        keys = self.policy.rank(self.seed, rows).to(self.device)
        if len(self) == self.capacity:
            # Late in a stream hardly any row can enter: nothing is moved or sorted for the others.
            chance = self.policy.may_enter(keys, self._keys).nonzero().flatten()
            if len(chance) == 0:
                return
            rows, keys = rows.select(chance.to(rows.device)), keys[chance]
        rows = rows.to(self.device)
        new = self._first_time(rows.index)
        rows, keys = rows.select(new), keys[new]
        kept = self.policy.keep(self._candidates(rows, keys), self.capacity)
        old = len(self)
        winners = kept[kept >= old] - old
        if len(winners) == 0:
            return
        store = self._reserve(len(kept), rows)
        free = torch.ones(len(store), dtype=torch.bool, device=self.device)
        free[self._slots[kept[kept < old]]] = False
        slots = free.nonzero().flatten()[: len(winners)]
        _write(store, slots, rows.select(winners))
        place = torch.full((len(rows),), -1, device=self.device).index_copy(0, winners, slots)
        self._slots = torch.cat([self._slots, place])[kept]
        self._keys = torch.cat([self._keys, keys])[kept]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Batch:
        """min(n, len) different rows, uniformly at random; ``generator`` is one of the CPU."""
        picked = torch.randperm(len(self), generator=generator)[: whole_number("rows to draw", n)].to(self.device)
        return self._rows(self._slots[picked])

    def all(self) -> Batch:
        """Every row, best first. Raises InputError while the memory is empty."""
        return self._rows(self._slots)

    def state_dict(self) -> dict[str, Any]:
        head = {"seed": self.seed, "capacity": self.capacity}
        if self._store is None:
            return head
        rows = self.all()
        columns = {"inputs": rows.inputs, "present": rows.present, "extras": rows.extras}
        return {**head, **columns, "target": rows.target, "task": rows.task, "index": rows.index, "keys": self._keys}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["capacity"] != self.capacity:
            raise InputError(f"memory: the state is of capacity {state['capacity']}, this memory of {self.capacity}.")
        self.seed = state["seed"]
        self._store, self._slots, self._keys = None, self._slots[:0], self._keys[:0]
        if "keys" in state:
            names = ("inputs", "target", "task", "present", "index", "extras")
            self._store = Batch(fresh=0, **{name: state[name] for name in names}).to(self.device)
            self._keys = state["keys"].to(self.device)
            self._slots = torch.arange(len(self._keys), device=self.device)

    def _rows(self, slots: Tensor) -> Batch:
        if self._store is None:
            raise InputError("memory: it is empty and has nothing to give; add rows first.")
        return self._store.select(slots)

    def _first_time(self, index: Tensor) -> Tensor:
        """Positions of the first row of every id that the memory does not hold, ascending."""
        _, inverse = index.unique(return_inverse=True)
        position = torch.arange(len(index), device=index.device)
        first = torch.full_like(index, len(index)).scatter_reduce(0, inverse, position, "amin")
        new = first[inverse] == position
        if self._store is not None:
            new &= ~torch.isin(index, self._store.index[self._slots])
        return new.nonzero().flatten()

    def _candidates(self, rows: Batch, keys: Tensor) -> Candidates:
        if self._store is None:
            return Candidates(keys, rows.index, rows.target, rows.task, rows.present)
        old, slots = self._store, self._slots

        def both(a: Tensor | None, b: Tensor | None) -> Tensor:
            absent = torch.zeros(len(slots) if a is None else len(rows), dtype=torch.bool, device=self.device)
            return torch.cat([absent if a is None else a[slots], absent if b is None else b])

        return Candidates(
            torch.cat([self._keys, keys]),
            both(old.index, rows.index),
            both(old.target, rows.target),
            both(old.task, rows.task),
            {m: both(old.present.get(m), rows.present.get(m)) for m in {**old.present, **rows.present}},
        )

    def _reserve(self, rows: int, like: Batch) -> Batch:
        """Room for ``rows``, doubling so that filling costs linear time, with all columns of ``like``."""
        have = 0 if self._store is None else len(self._store)
        size = have if rows <= have else min(self.capacity, max(rows, 2 * have))
        old = self._store if self._store is not None else _empty(like, 0)
        names = {**like.inputs, **old.inputs}
        self._store = Batch(
            {m: _grown("modality " + m, old.inputs.get(m), x, size) for m, x in names.items()},
            _grown("target", old.target, like.target, size),
            _grown("task", old.task, like.task, size),
            {m: _grown(m, old.present.get(m), like.task.to(torch.bool), size) for m in names},
            _grown("index", old.index, like.index, size),
            0,
            {name: _grown(name, old.extras.get(name), x, size) for name, x in {**like.extras, **old.extras}.items()},
        )
        return self._store


def _as_old(batch: Batch, extras: dict[str, Tensor]) -> Batch:
    kept = {name: x.detach() for name, x in extras.items()}
    return Batch(batch.inputs, batch.target, batch.task, batch.present, batch.index, 0, kept)


def _empty(like: Batch, rows: int) -> Batch:
    return like.select(slice(0, rows))


def _grown(name: str, column: Tensor | None, like: Tensor, size: int) -> Tensor:
    have = 0 if column is None else len(column)
    if have == size:
        return column if column is not None else like.new_zeros((0, *like.shape[1:]))
    room = like.new_zeros((size - have, *like.shape[1:]))
    return room if column is None else torch.cat([column, room])


def _write(store: Batch, slots: Tensor, rows: Batch) -> None:
    """Overwrite ``slots`` of the store; a modality that the rows lack becomes missing there."""
    for name, column in store.inputs.items():
        _put(f"modality {name!r}", column, slots, rows.inputs.get(name))
        _put(f"presence of {name!r}", store.present[name], slots, rows.present.get(name))
    for name, column in store.extras.items():
        _put(f"extra {name!r}", column, slots, rows.extras.get(name))
    for name in ("target", "task", "index"):
        _put(name, getattr(store, name), slots, getattr(rows, name))


def _put(name: str, column: Tensor, slots: Tensor, values: Tensor | None) -> None:
    if values is None:
        column[slots] = 0
        return
    if values.shape[1:] != column.shape[1:] or values.dtype != column.dtype:
        raise InputError(
            f"memory: {name} holds rows of {tuple(column.shape[1:])} {column.dtype}, "
            f"got {tuple(values.shape[1:])} {values.dtype}; give every row the same shape and dtype."
        )
    column[slots] = values
