"""A memory as a state, and back."""

from __future__ import annotations

from typing import Any

import torch

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.train.memory.columns import Store
from pyfast_mmcl.train.memory.core import Rows
from pyfast_mmcl.train.memory.mapped import Mapped
from pyfast_mmcl.train.memory.table import Table


def state_of(memory: Rows) -> dict[str, Any]:
    """Settings; ids, keys and groups; and the columns in order, or where they lie in a memory map."""
    state, store, table = memory.settings(), memory.store, memory.table
    if not store.columns:
        return state
    state |= {"index": torch.from_numpy(table.index.copy()), "keys": torch.from_numpy(table.keys.copy())}
    if memory.grouped:
        state["groups"] = torch.from_numpy(table.groups.copy())
    if isinstance(store.storage, Mapped):
        return {**state, "map": store.storage.freeze(store.columns, table.slots)}
    return {**state, **store.state(memory.slots()), "codecs": store.describe()}


def load(memory: Rows, state: dict[str, Any]) -> None:
    """Take back what ``state_of`` gave. Errors leave ``memory`` as it was."""
    try:
        memory.take(*_read(memory, state))
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        # Entries of another kind than ``state_of`` writes fail wherever they are first used.
        raise CheckpointError(f"memory: the state is damaged: {error}; load another one.") from error


def _read(memory: Rows, state: dict[str, Any]) -> tuple[Store, Table, int]:
    for name, mine in memory.settings().items():
        theirs = state.get(name, mine if name == "policy" else None)
        if name != "seed" and theirs != mine:
            raise InputError(f"memory: the state is of {name} {theirs!r}, this memory of {mine!r}.")
    if not isinstance(state.get("seed"), int):
        raise CheckpointError("memory: the state is damaged: it has no seed.")
    store, table = Store(memory.store.storage.fresh(), memory.store.codecs), Table()
    if "index" in state:
        missing = {"keys", *(["groups"] if memory.grouped else [])} - set(state)
        if missing:
            raise CheckpointError(f"memory: the state is damaged: {', '.join(sorted(missing))} are missing.")
        table.load(memory.policy, state)
        _load_columns(store, table, state)
    if store.columns and len(table) > memory.capacity_of(memory.row_bytes_of(store)):
        raise CheckpointError("memory: the state is damaged: it holds more rows than its budget gives.")
    return store, table, state["seed"]


def _load_columns(store: Store, table: Table, state: dict[str, Any]) -> None:
    if "map" not in state:
        store.load(state, len(table))
    elif isinstance(store.storage, Mapped):
        store.columns, store.rows, table.slots = store.storage.thaw(state["map"], len(table))
    else:
        raise InputError(
            "memory: the rows of the state are in a memory map; give storage='memmap' and the folder it was made with."
        )
