"""A memory of multimodal examples: contiguous columns, and a policy that says which rows are worth keeping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory import states
from pyfast_mmcl.train.memory.codecs import get_codec
from pyfast_mmcl.train.memory.columns import Store
from pyfast_mmcl.train.memory.core import Rows
from pyfast_mmcl.train.memory.draws import distinct
from pyfast_mmcl.train.memory.mapped import Mapped
from pyfast_mmcl.train.memory.offer import as_old, chances, decide, decide_custom, numbers
from pyfast_mmcl.train.memory.policies import POLICIES, KeyPolicy, Policy
from pyfast_mmcl.train.memory.shared import add_together, update_together
from pyfast_mmcl.train.memory.storage import OnDevice, Pinned, Storage
from pyfast_mmcl.train.memory.wire import Wire

_STORAGES = ("device", "pinned", "memmap")


class Memory:
    """At most ``capacity`` rows in at most ``max_bytes``, each id once, with modalities, target, task and extras.

    capacity   rows to keep, at least 1
    max_bytes  bytes to keep them in: all columns as stored, presence, extras, ids and keys. The number of rows is
               decided when the first batch shows what a row takes; a modality or extra that comes later makes rows
               larger, and the policy then keeps fewer. Give one of the two, or both
    policy     name in POLICIES, or an object with the methods of Policy
    seed       with the example ids, it decides the contents
    device     where ``sample`` answers, and where the columns live
    storage    "device"; "pinned": columns in page-locked host memory; "memmap": in files under ``folder``, which may be
               larger than the main memory
    codecs     {modality or extra: name in CODECS}, how columns are stored (default "raw"); a name that the first rows
               lack is told in a warning
    process_group
               processes that share one memory. All of them call ``add`` and ``update`` together, each with its own rows
               (or none), and hold the same rows: those of one process that was offered the rows of rank 0, 1, … in
               turn. An InputError on one is an InputError on all

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
        folder: str | Path | None = None,
        codecs: Mapping[str, str] | None = None,
        process_group: Any = None,
    ) -> None:
        if isinstance(policy, str) and policy not in POLICIES:
            raise unknown_name("memory policy", policy, POLICIES)
        if storage not in _STORAGES:
            raise unknown_name("memory storage", storage, _STORAGES)
        if capacity is None and max_bytes is None:
            raise InputError("memory: it needs a size; give capacity in rows or max_bytes.")
        if codecs is not None and not isinstance(codecs, Mapping):
            raise InputError(f"memory codecs: expected {{modality or extra: name}}, got {codecs!r}.")
        if not isinstance(policy, str | KeyPolicy) and not callable(getattr(policy, "rank", None)):
            raise InputError(f"memory policy: expected a name or an object with the methods of Policy, got {policy!r}.")
        for name in (codecs or {}).values():
            get_codec(name)
        device = torch.device(device)
        store = Store(_make_storage(storage, device, folder), dict(codecs or {}))
        sizes = {
            "max_rows": None if capacity is None else whole_number("memory capacity", capacity),
            "max_bytes": None if max_bytes is None else whole_number("memory max_bytes", max_bytes),
        }
        policy = POLICIES[policy]() if isinstance(policy, str) else policy
        self._rows = Rows(store, policy, seed=whole_number("memory seed", seed, least=None), device=device, **sizes)
        self._wire = None if process_group is None else Wire(process_group)
        self._greeted = False  # whether the ranks have compared their settings
        if self._wire is not None and not isinstance(policy, KeyPolicy):
            raise InputError("memory: with process_group the policy is one of POLICIES or a KeyPolicy; choose one.")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def capacity(self) -> int | None:
        """Rows that fit, None while ``max_bytes`` alone is given and no row has been offered yet."""
        return self._rows.capacity({}) if self._rows.store.columns else self._rows.max_rows

    @property
    def policy(self) -> Policy | KeyPolicy:
        """Which rows are kept."""
        return self._rows.policy

    @property
    def seed(self) -> int:
        """What decides the contents, with the ids."""
        return self._rows.seed

    @property
    def device(self) -> torch.device:
        """Where ``sample`` answers."""
        return self._rows.device

    @property
    def nbytes(self) -> int:
        """Bytes of everything kept."""
        return len(self) * self._rows.row_bytes_of(self._rows.store)

    @property
    def index(self) -> Tensor:
        """Ids of the rows, in order, int64 on the CPU."""
        return torch.from_numpy(self._rows.table.index.copy())

    def add(
        self, batch: Batch, extras: dict[str, Tensor] | None = None, *, hints: dict[str, Tensor] | None = None
    ) -> None:
        """Offer all rows of ``batch``; the policy decides which stay.

        ``extras`` {name: [B, …]} are kept beside them; ``hints`` {name: [B, …]} are seen by the policy and not kept.
        Offering an id that is held changes nothing. Raises InputError, with nothing changed, when shapes or dtypes
        differ from those of the memory, when the policy misses an extra, when a row is larger than the budget, or when
        a memory map has no room on its disk.
        """
        extras, hints = extras or {}, hints or {}
        if self._wire is None:
            self._add(as_old(batch, extras, hints), hints)
        else:
            add_together(self._wire, self._rows, batch, extras, hints, greet=not self._greeted)
            self._greeted = True

    def sample(
        self, n: int, generator: torch.Generator | None = None, *, by: str | None = None, beta: float | None = None
    ) -> Batch:
        """At most n rows, drawn by a ``generator`` of the CPU: they depend on the contents and on it alone.

        by    None: as the policy draws, "uniform" unless it says otherwise. "uniform": min(n, len) different rows. The
              name of an extra [M]: n rows with replacement, in proportion to it (0, or 1e-30 … 1e30), one from
              each n-th of its sum
        beta  exponent of importance weights (len · p / Σp)^−beta over the largest of them, as the extra "weight"

        Raises InputError while the memory is empty, and for a beta where rows are drawn uniformly.
        """
        n, rows = whole_number("rows to draw", n), self._rows
        by = by or getattr(rows.policy, "draws_by", None) or "uniform"
        if beta is not None and by == "uniform":
            raise InputError(f"memory: beta={beta} weighs draws by an extra; name it with by=, or leave beta out.")
        if len(rows) == 0 or by == "uniform":
            return rows.batch(distinct(len(rows), n, generator))
        if not rows.priorities.current(rows.table.version, by):
            column = rows.store.extra(by)
            rows.priorities.build(rows.table.version, by, column.decode(column.stored(rows.slots())))
        beta = getattr(rows.policy, "beta", None) if beta is None else beta
        places, weight = rows.priorities.draw(n, generator, beta)
        drawn = rows.batch(places)
        if weight is not None:
            drawn.extras["weight"] = weight.to(self.device)
        return drawn

    def all(self) -> Batch:
        """Every row, in order. Raises InputError while the memory is empty."""
        return self._rows.batch(np.arange(len(self)))

    def select(self, places: Tensor) -> Batch:
        """The rows at ``places`` [n] of the order of ``all``. Raises InputError for places beyond it."""
        chosen = numbers(places)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise InputError(
                f"memory: expected places from 0 to {len(self) - 1}, got {chosen.min()} to {chosen.max()}."
            )
        return self._rows.batch(chosen)

    def update(self, index: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Rewrite ``extras`` {name: [B, …]} of the rows with ids ``index`` [B]; the last of equal ids counts.

        Returns bool [B]: which ids are held, on the CPU; the others are passed over. A policy that ranks by an extra
        ranks anew by it. Raises InputError, with nothing changed, for an extra that is not stored or does not fit.
        """
        if self._wire is None:
            ids = numbers(index)
            self._rows.rewrite(ids, {name: self._rows.store.values(name, x, len(ids)) for name, x in extras.items()})
        else:
            ids = update_together(self._wire, self._rows, index, extras)
        return torch.from_numpy(self._rows.table.places(ids) >= 0)

    def widen(self, name: str, width: int) -> None:
        """Give the rows of the extra ``name`` [M, …, C] ``width`` ≥ C entries in their last axis, zeros behind.

        For logits of a head that has grown. Rows become larger, and a budget in bytes then holds fewer. Over several
        processes all of them call it.
        """
        rows = self._rows
        wider = rows.store.wider(name, whole_number("width", width))
        size = rows.row_bytes_of(rows.store) - rows.store.extra(name).row_bytes + wider.row_bytes
        capacity = rows.capacity_of(size)
        rows.store.widen(wider)
        if len(rows) > capacity:
            rows.shrink(capacity)

    def state_dict(self) -> dict[str, Any]:
        """Settings, and the rows as they are stored (codes and scales), in order.

        Of a memory map it has the names of the files and the slots of the rows, not the rows: those stay in the files,
        flushed to the disk before this returns, and are not overwritten before two later states with other contents.
        """
        return states.state_of(self._rows)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave.

        Raises InputError, with nothing changed, when it is of other settings; CheckpointError when it is damaged or
        refers to rows of a memory map that are no longer there.
        """
        states.load(self._rows, state)
        self._greeted = False

    def _add(self, batch: Batch, hints: dict[str, Tensor]) -> None:
        if len(batch) == 0:
            return
        rows = self._rows
        new = rows.store.missing(batch)
        capacity = rows.capacity(new)
        if isinstance(rows.policy, KeyPolicy):
            full = len(rows) >= capacity
            given = chances(rows.policy, rows.seed, rows.table, batch, hints, full=full)
            offer = decide(rows.policy, rows.table, given, capacity)
        else:
            offer = decide_custom(rows.policy, rows.seed, rows.table, rows.store, batch, hints, capacity)
        if offer is not None:
            encoded = rows.store.encode(batch.select(torch.from_numpy(offer.winners).to(batch.device)), new)
            rows.settle(offer, new, encoded, rows.make_room(offer, new, capacity), capacity)
        else:
            rows.store.prepare(new, rows.store.rows)
            rows.store.columns.update(new)
            rows.table.close()


def _make_storage(storage: str, device: torch.device, folder: str | Path | None) -> Storage:
    if (storage == "memmap") != (folder is not None):
        raise InputError("memory: storage 'memmap' and a folder go together; give both or neither.")
    if folder is not None:
        return Mapped(Path(folder))
    return Pinned() if storage == "pinned" else OnDevice(device)
