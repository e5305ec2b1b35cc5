"""What an offered batch does to a table: which rows enter, and the order of all rows afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory.columns import Store
from pyfast_mmcl.train.memory.policies import Candidates, KeyPolicy, Policy
from pyfast_mmcl.train.memory.table import Table


@dataclass(frozen=True)
class Chances:
    """Rows that may enter: positions ``rows`` [A] in the batch, ids, keys, and groups and features where needed."""

    rows: np.ndarray
    index: np.ndarray
    keys: np.ndarray
    groups: np.ndarray | None = None
    features: Tensor | None = None


@dataclass(frozen=True)
class Offer:
    """Some chances and the table to be.

    index, keys, groups [A]  of the rows offered; groups None where the policy has none
    kept                     rows of the table to be, in order: places of the table, then len(table) + a
    entering                 the a among them, ascending
    winners                  positions in the batch of the rows that enter, ascending
    """

    index: np.ndarray
    keys: np.ndarray
    groups: np.ndarray | None
    kept: np.ndarray
    entering: np.ndarray
    winners: np.ndarray


def as_old(batch: Batch, extras: Mapping[str, Tensor], hints: Mapping[str, Tensor]) -> Batch:
    """``batch`` with ``extras``, all of it rows of memory. Raises InputError where lengths differ."""
    for kind, columns in {"extra": extras, "hint": hints}.items():
        for name, x in columns.items():
            if not isinstance(x, Tensor) or x.ndim == 0 or len(x) != len(batch):
                got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
                raise InputError(f"memory: expected {len(batch)} rows in {kind} {name!r}, as in the batch, got {got}.")
    old = copy(batch)  # its columns have been checked: not again for every batch of a stream
    old.fresh, old.extras = 0, dict(extras)
    return old


def numbers(x: Tensor) -> np.ndarray:
    """Integers as an int64 array on the CPU. Raises InputError for what is not a row of integers."""
    if not isinstance(x, Tensor) or x.ndim != 1 or x.dtype == torch.bool or x.is_floating_point():
        got = f"{list(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"memory: expected a tensor of integers [B], got {got}; of a mask give mask.nonzero()[:, 0].")
    if x.dtype != torch.int64 or x.device.type != "cpu":
        x = x.to("cpu", torch.int64)
    return x.numpy()


def chances(
    policy: KeyPolicy, seed: int, table: Table, batch: Batch, hints: Mapping[str, Tensor], *, full: bool
) -> Chances:
    """The rows of ``batch`` that a policy lets hope; all of them unless the table is ``full``."""
    seen = _with(batch, hints)
    index = numbers(batch.index)
    groups = numbers(policy.groups(seen)) if policy.grouped else None
    if policy.arrival or policy.whole:
        features = policy.features(seen).detach() if policy.whole else None
        return Chances(np.arange(len(index)), index, np.zeros_like(index), groups, features)
    keys = numbers(policy.rank(seed, seen))
    if not full:
        return Chances(np.arange(len(index)), index, keys, groups)
    some = table.chance(keys, groups)
    return Chances(some, index[some], keys[some], None if groups is None else groups[some])


def _with(batch: Batch, hints: Mapping[str, Tensor]) -> Batch:
    return replace(batch, extras={**batch.extras, **hints}) if hints else batch


def no_chances(policy: Policy | KeyPolicy) -> Chances:
    """What a batch of no rows gives."""
    none = np.zeros(0, dtype=np.int64)
    groups = none if getattr(policy, "grouped", False) else None
    return Chances(none, none, none, groups, torch.zeros(0, 0) if getattr(policy, "whole", False) else None)


def decide(policy: KeyPolicy, table: Table, given: Chances, capacity: int) -> Offer | None:
    """Which rows enter and which stay; None where nothing changes."""
    if len(given.rows) and not policy.arrival:
        if policy.whole:
            given = _ranked(policy, given, capacity)
        given = _some(given, table.unknown(given.index))
    if len(given.rows) == 0 and len(table) <= capacity:
        return None
    return _offer(table, given, table.keep(policy, capacity, given.index, given.keys, given.groups))


def decide_custom(
    policy: Policy,
    seed: int,
    table: Table,
    store: Store,
    batch: Batch,
    hints: Mapping[str, Tensor],
    capacity: int,
) -> Offer | None:
    """The same for a policy of one's own."""
    keys = policy.rank(seed, _with(batch, hints)).to("cpu")
    may = np.arange(len(keys))
    if len(table) >= capacity:
        may = policy.may_enter(keys, torch.from_numpy(table.keys)).to("cpu").nonzero().flatten().numpy()
    index = numbers(batch.index)
    if len(may):
        may = may[table.unknown(index[may])]
    if len(may) == 0 and len(table) <= capacity:
        return None
    chosen = torch.from_numpy(may)
    kept = policy.keep(candidates(table, store, batch.select(chosen.to(batch.device)), keys[chosen]), capacity)
    return _offer(table, Chances(may, index[may], numbers(keys)[may]), _places(kept, len(table) + len(may), capacity))


def _places(kept: Tensor, rows: int, capacity: int) -> np.ndarray:
    """What a policy of one's own keeps of so many ``rows``. Raises InputError where it breaks its contract."""
    places = numbers(kept)
    if len(places) > capacity or len(np.unique(places)) < len(places) or ((places < 0) | (places >= rows)).any():
        raise InputError(
            f"memory: keep of a policy gives at most {capacity} different positions below {rows}, best first; "
            f"got {len(places)}: {places[:4].tolist()}…"
        )
    return places


def _ranked(policy: KeyPolicy, given: Chances, capacity: int) -> Chances:
    """Rows that are ranked together: each id once, and the keys of the policy."""
    first = np.sort(np.unique(given.index, return_index=True)[1])
    given = _some(given, first)
    assert given.groups is not None and given.features is not None  # policies that rank together have both
    index, groups = torch.from_numpy(given.index), torch.from_numpy(given.groups)
    return replace(given, keys=numbers(policy.rank_together(given.features, index, groups, capacity)), features=None)


def _some(given: Chances, chosen: np.ndarray) -> Chances:
    return Chances(
        given.rows[chosen],
        given.index[chosen],
        given.keys[chosen],
        None if given.groups is None else given.groups[chosen],
        None if given.features is None else given.features[torch.from_numpy(chosen).to(given.features.device)],
    )


def _offer(table: Table, given: Chances, kept: np.ndarray) -> Offer | None:
    entering = np.sort(kept[kept >= len(table)]) - len(table)
    if len(entering) == 0 and len(kept) == len(table):
        return None
    return Offer(given.index, given.keys, given.groups, kept, entering, given.rows[entering])


def candidates(table: Table, store: Store, rows: Batch, keys: Tensor) -> Candidates:
    """What a policy of one's own looks at, on the CPU: rows of the memory, then new ones."""
    rows = rows.to("cpu")
    if len(table) == 0:
        return Candidates(keys, rows.index, rows.target, rows.task, rows.present)
    slots = torch.from_numpy(table.slots).to(store.storage.device)
    small = {key: column for key, column in store.columns.items() if key[0] not in ("inputs", "extras")}
    held = {key: column.decode(column.stored(slots)).cpu() for key, column in small.items()}
    absent_held = torch.zeros(len(table), dtype=torch.bool)
    absent = torch.zeros(len(rows), dtype=torch.bool)
    modalities = dict.fromkeys([name for kind, name in held if kind == "present"] + list(rows.present))
    return Candidates(
        torch.cat([torch.from_numpy(table.keys), keys]),
        torch.cat([torch.from_numpy(table.index), rows.index]),
        torch.cat([held["target", ""], rows.target]),
        torch.cat([held["task", ""], rows.task]),
        {m: torch.cat([held.get(("present", m), absent_held), rows.present.get(m, absent)]) for m in modalities},
    )
