"""A memory of multimodal examples: contiguous columns, and a policy that says which rows are worth keeping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory import draw
from pyfast_mmcl.train.memory.codecs import get_codec
from pyfast_mmcl.train.memory.columns import Column, Key, Store
from pyfast_mmcl.train.memory.offer import Offer, as_old, custom_offer, keyed_offer, numbers
from pyfast_mmcl.train.memory.policies import POLICIES, Candidates, KeyPolicy, Policy
from pyfast_mmcl.train.memory.storage import OnDevice, Pinned, Storage
from pyfast_mmcl.train.memory.table import Table

_STORAGES = ("device", "pinned")


class Memory:
    """At most ``capacity`` rows in at most ``max_bytes``, each id once, with modalities, target, task and extras.

    capacity   rows to keep, at least 1
    max_bytes  bytes to keep them in: all columns, presence, extras, ids and keys count, as stored. The number of rows
               is decided when the first batch shows what a row takes; a modality or extra that comes later makes rows
               larger, and the policy then keeps fewer. Give one of the two, or both
    policy     name in POLICIES, or an object with the methods of Policy
    seed       with the example ids, it decides the contents
    device     where ``sample`` answers, and where the columns live
    storage    "device", or "pinned": columns in page-locked host memory
    codecs     {modality or extra: name in CODECS}, how columns are stored (default "raw")

    Columns are those of everything ever offered; where a row came without one, it has zeros and presence False. Rows
    are given in the order of the policy: the same contents look the same whatever their history.
    """

    def __init__(
        self,
        capacity: int | None = None,
        *,
        max_bytes: int | None = None,
        policy: str | Policy | KeyPolicy = "reservoir",
        seed: int = 0,
        device: torch.device | str = "cpu",
        storage: str = "device",
        codecs: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(policy, str) and policy not in POLICIES:
            raise unknown_name("memory policy", policy, POLICIES)
        if storage not in _STORAGES:
            raise unknown_name("memory storage", storage, _STORAGES)
        if capacity is None and max_bytes is None:
            raise InputError("memory: it needs a size; give capacity in rows or max_bytes.")
        for name in (codecs or {}).values():
            get_codec(name)
        self.max_rows = None if capacity is None else whole_number("memory capacity", capacity)
        self.max_bytes = None if max_bytes is None else whole_number("memory max_bytes", max_bytes)
        self.policy: Policy | KeyPolicy = POLICIES[policy]() if isinstance(policy, str) else policy
        self.seed = seed
        self.device = torch.device(device)
        self._storage: Storage = Pinned() if storage == "pinned" else OnDevice(self.device)
        self._store = Store(self._storage, dict(codecs or {}))
        self._table = Table()
        self._priority: tuple[tuple[int, str], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._table)

    @property
    def capacity(self) -> int | None:
        """Rows that fit, None while ``max_bytes`` alone is given and no row has been offered yet."""
        return self._rows_of(self._row_bytes) if self._store.columns else self.max_rows

    @property
    def nbytes(self) -> int:
        """Bytes of everything kept."""
        return len(self) * self._row_bytes

    @property
    def index(self) -> Tensor:
        """Ids of the rows, in order, int64 on the CPU."""
        return torch.from_numpy(self._table.index.copy())

    def add(
        self, batch: Batch, extras: dict[str, Tensor] | None = None, *, hints: dict[str, Tensor] | None = None
    ) -> None:
        """Offer all rows of ``batch``; the policy decides which stay.

        ``extras`` {name: [B, …]} are kept beside them; ``hints`` {name: [B, …]} are seen by the policy and not kept.
        Offering an id that is held changes nothing. Raises InputError, with nothing changed, when shapes or dtypes
        differ from those of the memory, when the policy misses an extra, or when a row is larger than the budget.
        """
        rows = as_old(batch, extras or {}, hints or {})
        if len(rows) == 0:
            return
        new = self._store.plan(self._store.check(rows))
        capacity = self._rows_of(self._row_bytes + sum(column.row_bytes for column in new.values()))
        if isinstance(self.policy, KeyPolicy):
            offer = keyed_offer(self.policy, self.seed, self._table, rows, hints or {}, capacity)
        else:
            offer = custom_offer(self.policy, self.seed, self._table, rows, self._candidates, capacity)
        if new or offer is not None:
            self._take(rows, new, offer, capacity)

    def sample(
        self, n: int, generator: torch.Generator | None = None, *, by: str | None = None, beta: float | None = None
    ) -> Batch:
        """At most n rows, drawn by a ``generator`` of the CPU: they depend on the contents and on it alone.

        by    None: as the policy draws, "uniform" unless it says otherwise. "uniform": min(n, len) different rows. The
              name of an extra [M] ≥ 0: n rows with replacement, in proportion to it, one from each n-th of its sum
        beta  exponent of importance weights (len · p / Σp)^−beta over the largest of them, as the extra "weight"

        Raises InputError while the memory is empty.
        """
        n = whole_number("rows to draw", n)
        by = by or getattr(self.policy, "draws_by", None) or "uniform"
        if by == "uniform":
            return self._rows(draw.distinct(len(self), n, generator))
        priority = self._priorities(by)
        places = draw.proportional(priority, n, generator)
        rows = self._rows(places)
        beta = getattr(self.policy, "beta", None) if beta is None else beta
        if beta is not None:
            rows.extras["weight"] = torch.from_numpy(draw.importance(priority, places, beta)).to(self.device)
        return rows

    def all(self) -> Batch:
        """Every row, in order. Raises InputError while the memory is empty."""
        return self._rows(np.arange(len(self)))

    def select(self, places: Tensor) -> Batch:
        """The rows at ``places`` [n] of the order of ``all``."""
        places = numbers(places)
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise InputError(f"memory: expected places from 0 to {len(self) - 1}, got others.")
        return self._rows(places)

    def update(self, index: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Rewrite ``extras`` {name: [B, …]} of the rows with ids ``index`` [B]; the last of equal ids counts.

        Returns bool [B]: which ids are held, on the CPU; the others are passed over. A policy that ranks by an extra
        ranks anew by it. Raises InputError, with nothing changed, for an extra that is not stored or does not fit.
        """
        ids = numbers(index)
        held = self._table.places(ids)
        places, last = np.unique(held[::-1], return_index=True)
        rows = (len(ids) - 1 - last)[places >= 0]
        places = places[places >= 0]
        chosen = {name: self._extra(name, x, len(ids))[torch.from_numpy(rows)] for name, x in extras.items()}
        keys = self._new_keys(ids[rows], chosen)
        columns = {name: self._column_of(name) for name in chosen}
        encoded = {name: column.encode(chosen[name]) for name, column in columns.items()}
        slots = torch.from_numpy(self._table.slots[places]).to(self._storage.device)
        for name, column in columns.items():
            column.write(slots, encoded[name])
        if keys is not None:
            self._table.rekey(self.policy, places, keys)
        self._priority = None
        return torch.from_numpy(held >= 0)

    def state_dict(self) -> dict[str, Any]:
        """Settings, and the rows as they are stored: codes and scales, in order."""
        name = getattr(self.policy, "name", "") or type(self.policy).__name__
        state: dict[str, Any] = {
            "seed": self.seed,
            "capacity": self.max_rows,
            "max_bytes": self.max_bytes,
            "policy": name,
        }
        if not self._store.columns:
            return state
        table = self._table
        state |= self._store.state(torch.from_numpy(table.slots))
        state |= {"index": torch.from_numpy(table.index.copy()), "keys": torch.from_numpy(table.keys.copy())}
        if self._has_groups:
            state["groups"] = torch.from_numpy(table.groups.copy())
        return {**state, "codecs": self._store.describe()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave. Raises InputError, with nothing changed, when it belongs elsewhere."""
        for name, mine in {"capacity": self.max_rows, "max_bytes": self.max_bytes}.items():
            if state.get(name) != mine:
                raise InputError(f"memory: the state is of {name} {state.get(name)}, this memory of {mine}.")
        name = getattr(self.policy, "name", "") or type(self.policy).__name__
        if state.get("policy", name) != name:
            raise InputError(f"memory: the state is of policy {state['policy']!r}, this memory of {name!r}.")
        store, table = Store(self._storage, self._store.codecs), Table()
        if "index" in state:
            table.load(self.policy, state)
            store.load(state, len(table))
        self.seed, self._store, self._table, self._priority = state["seed"], store, table, None

    @property
    def _has_groups(self) -> bool:
        return getattr(self.policy, "grouped", False)

    @property
    def _row_bytes(self) -> int:
        # An int64 id and key, and a group where there are some.
        return self._store.row_bytes + (24 if self._has_groups else 16)

    def _rows_of(self, row_bytes: int) -> int:
        """Rows that the budget gives when each takes ``row_bytes``."""
        rows = self.max_rows if self.max_bytes is None else self.max_bytes // row_bytes
        if rows == 0:
            raise InputError(
                f"memory: a row takes {row_bytes} bytes and max_bytes is {self.max_bytes}; give more bytes, "
                f"or store columns in fewer with codecs."
            )
        return rows if self.max_rows is None else min(rows, self.max_rows)

    def _take(self, rows: Batch, new: dict[Key, Column], offer: Offer | None, capacity: int) -> None:
        """Write the rows that an offer keeps; errors come before the first change."""
        if offer is None:
            self._store.extend(new)
            return
        encoded = self._store.encode(rows.select(torch.from_numpy(offer.winners).to(rows.device)), new)
        slots = self._free_slots(offer)
        size = int(slots.max(initial=-1)) + 1
        if size > self._store.rows:
            self._store.reserve(min(capacity, max(size, 2 * self._store.rows)))
        self._store.extend(new)
        self._store.write(torch.from_numpy(slots), encoded)
        self._table.commit(offer, slots)
        if self._store.rows > capacity:
            self._store.pack(torch.from_numpy(self._table.slots))
            self._table.slots = np.arange(len(self))

    def _free_slots(self, offer: Offer) -> np.ndarray:
        """As many slots as rows enter: those of rows that leave, then unused ones."""
        stays = offer.kept[offer.kept < len(self)]
        used = np.zeros(max(self._store.rows, len(self)) + len(offer.winners), dtype=bool)
        used[self._table.slots[stays]] = True
        return np.flatnonzero(~used)[: len(offer.winners)]

    def _candidates(self, rows: Batch, keys: Tensor) -> Candidates:
        """What a policy of one's own looks at: rows of the memory, then new ones."""
        table, device = self._table, torch.device("cpu")
        rows = rows.to(device)
        if len(table) == 0:
            return Candidates(keys, rows.index, rows.target, rows.task, rows.present)
        slots = torch.from_numpy(table.slots)
        columns = {key: column for key, column in self._store.columns.items() if key[0] not in ("inputs", "extras")}
        held = {
            key: column.decode(column.stored(slots.to(self._storage.device))).cpu() for key, column in columns.items()
        }
        absent = {"held": torch.zeros(len(table), dtype=torch.bool), "new": torch.zeros(len(rows), dtype=torch.bool)}
        modalities = dict.fromkeys([name for kind, name in held if kind == "present"] + list(rows.present))
        return Candidates(
            torch.cat([torch.from_numpy(table.keys), keys]),
            torch.cat([torch.from_numpy(table.index), rows.index]),
            torch.cat([held["target", ""], rows.target]),
            torch.cat([held["task", ""], rows.task]),
            {
                m: torch.cat([held.get(("present", m), absent["held"]), rows.present.get(m, absent["new"])])
                for m in modalities
            },
        )

    def _rows(self, places: np.ndarray) -> Batch:
        if len(self) == 0:
            raise InputError("memory: it is empty and has nothing to give; add rows first.")
        table = self._table
        return self._store.batch(
            torch.from_numpy(table.slots[places]), torch.from_numpy(table.index[places]), self.device
        )

    def _column_of(self, name: str) -> Column:
        column = self._store.columns.get(("extras", name))
        if column is None:
            raise unknown_name("stored extra", name, [n for kind, n in self._store.columns if kind == "extras"])
        return column

    def _priorities(self, name: str) -> np.ndarray:
        """The extra ``name`` of all rows in order, float64 [len]."""
        if len(self) == 0:
            raise InputError("memory: it is empty and has nothing to give; add rows first.")
        if self._priority is None or self._priority[0] != (self._table.version, name):
            column = self._column_of(name)
            slots = torch.from_numpy(self._table.slots).to(self._storage.device)
            values = column.decode(column.stored(slots)).to("cpu", torch.float64).numpy()
            if values.ndim != 1 or not (np.isfinite(values) & (values >= 0)).all():
                raise InputError(f"memory: extra {name!r} is not one finite number of at least 0 per row to draw by.")
            self._priority = ((self._table.version, name), values)
        return self._priority[1]

    def _extra(self, name: str, values: Tensor, rows: int) -> Tensor:
        """New values [rows, …] for the extra ``name``, on the device of the columns."""
        values = values.detach().to(self._storage.device)
        column = self._column_of(name)
        if values.ndim == 0 or len(values) != rows:
            raise InputError(f"memory: expected {rows} rows in extra {name!r}, as in index, got {list(values.shape)}.")
        column.check(values)
        return values

    def _new_keys(self, index: np.ndarray, extras: dict[str, Tensor]) -> np.ndarray | None:
        ranked_by = getattr(self.policy, "ranked_by", None)
        if ranked_by not in extras:
            return None
        ids = torch.from_numpy(index)
        batch = Batch({}, ids, ids, {}, ids, 0, {ranked_by: extras[ranked_by].cpu()})
        return numbers(self.policy.rank(self.seed, batch))
