"""What an offered batch does to a table: which rows enter, and the order of all rows afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory.policies import Candidates, KeyPolicy, Policy
from pyfast_mmcl.train.memory.table import Table


@dataclass(frozen=True)
class Offer:
    """Rows of a batch with a chance, and the table to be.

    rows [A]                 their positions in the batch
    index, keys, groups [A]  of each; groups None where the policy has none
    kept                     rows of the table to be, in order: places of the table, then len(table) + a
    entering                 the a among them
    """

    rows: np.ndarray
    index: np.ndarray
    keys: np.ndarray
    groups: np.ndarray | None
    kept: np.ndarray
    entering: np.ndarray

    @property
    def winners(self) -> np.ndarray:
        """Positions in the batch of the rows that enter."""
        return self.rows[self.entering]


def as_old(batch: Batch, extras: Mapping[str, Tensor], hints: Mapping[str, Tensor]) -> Batch:
    """``batch`` with ``extras``, all of it rows of memory. Raises InputError where lengths differ."""
    for kind, columns in {"extra": extras, "hint": hints}.items():
        for name, x in columns.items():
            if not isinstance(x, Tensor) or x.ndim == 0 or len(x) != len(batch):
                got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
                raise InputError(f"memory: expected {len(batch)} rows in {kind} {name!r}, as in the batch, got {got}.")
    kept = {name: x.detach() for name, x in extras.items()}
    inputs = {m: x.detach() for m, x in batch.inputs.items()}
    return Batch(inputs, batch.target, batch.task, batch.present, batch.index, 0, kept)


def numbers(x: Tensor) -> np.ndarray:
    """Integers as an int64 array on the CPU."""
    return x.detach().to("cpu", torch.int64).numpy()


def keyed_offer(
    policy: KeyPolicy, seed: int, table: Table, batch: Batch, hints: Mapping[str, Tensor], capacity: int
) -> Offer | None:
    """The offer of ``batch`` to a table of a KeyPolicy; None where it changes nothing."""
    seen = replace(batch, extras={**batch.extras, **hints})
    index = numbers(batch.index)
    rows = np.arange(len(index))
    if policy.whole:
        rows = np.sort(np.unique(index, return_index=True)[1])
        seen, index = seen.select(torch.from_numpy(rows).to(seen.device)), index[rows]
    keys = _keys(policy, seed, seen, capacity)
    groups = numbers(policy.groups(seen)) if policy.grouped else None
    if not policy.arrival:
        some = table.chance(keys, groups) if len(table) >= capacity else np.arange(len(index))
        if len(some):
            some = some[table.unknown(index[some])]
        rows, index, keys = rows[some], index[some], keys[some]
        groups = None if groups is None else groups[some]
    if len(rows) == 0 and len(table) <= capacity:
        return None
    kept = table.keep(policy, capacity, index, keys, groups)
    return _offer(table, rows, index, keys, groups, kept)


def _keys(policy: KeyPolicy, seed: int, seen: Batch, capacity: int) -> np.ndarray:
    if policy.arrival:
        return np.zeros(len(seen), dtype=np.int64)
    return numbers(policy.rank(seed, seen, capacity) if policy.whole else policy.rank(seed, seen))


def custom_offer(
    policy: Policy,
    seed: int,
    table: Table,
    batch: Batch,
    candidates: Callable[[Batch, Tensor], Candidates],
    capacity: int,
) -> Offer | None:
    """The same for a policy of one's own; ``candidates`` puts the rows of the memory before the new ones."""
    keys = policy.rank(seed, batch).to("cpu")
    if len(table) >= capacity:
        may = policy.may_enter(keys, torch.from_numpy(table.keys)).to("cpu").nonzero().flatten().numpy()
    else:
        may = np.arange(len(keys))
    index = numbers(batch.index)
    if len(may):
        may = may[table.unknown(index[may])]
    if len(may) == 0 and len(table) <= capacity:
        return None
    chosen = torch.from_numpy(may)
    kept = policy.keep(candidates(batch.select(chosen.to(batch.device)), keys[chosen]), capacity)
    return _offer(table, may, index[may], numbers(keys)[may], None, numbers(kept))


def _offer(
    table: Table, rows: np.ndarray, index: np.ndarray, keys: np.ndarray, groups: np.ndarray | None, kept: np.ndarray
) -> Offer | None:
    entering = kept[kept >= len(table)] - len(table)
    if len(entering) == 0 and len(kept) == len(table):
        return None
    return Offer(rows, index, keys, groups, kept, entering)
