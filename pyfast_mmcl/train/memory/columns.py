"""The columns of a memory: one tensor per modality, presence, extra, target and task, rows in numbered slots."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import CheckpointError, InputError, unknown_name
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory.codecs import Layout, Parts, get_codec
from pyfast_mmcl.train.memory.storage import Storage

# Columns by kind and name: ("inputs", "image"), ("present", "image"), ("extras", "logits"), ("target", ""), …
Key = tuple[str, str]
_SINGLE = ("target", "task")


def tensors_of(batch: Batch) -> dict[Key, Tensor]:
    """The columns that a batch brings."""
    named = {"inputs": batch.inputs, "present": batch.present, "extras": batch.extras}
    found = {(kind, name): x for kind, columns in named.items() for name, x in columns.items()}
    return {**found, ("target", ""): batch.target, ("task", ""): batch.task}


def label(key: Key) -> str:
    """A column's name in messages."""
    kind, name = key
    words = {"inputs": "modality", "present": "presence of", "extras": "extra"}
    return f"{words[kind]} {name!r}" if kind in words else kind


@dataclass
class Column:
    """Rows of ``shape`` and ``dtype``, stored by a codec as ``parts`` {name: [slots, …]}."""

    key: Key
    shape: tuple[int, ...]
    dtype: torch.dtype
    codec: str
    parts: Parts

    def __post_init__(self) -> None:
        self._codec = get_codec(self.codec)
        self.layout: dict[str, Layout] = self._codec.layout(label(self.key), self.shape, self.dtype)

    @property
    def row_bytes(self) -> int:
        return sum(prod(shape) * dtype.itemsize for shape, dtype in self.layout.values())

    def check(self, values: Tensor) -> None:
        """Raise InputError when ``values`` [N, …] are not rows of this column."""
        if values.shape[1:] != self.shape or values.dtype != self.dtype:
            raise InputError(
                f"memory: {label(self.key)} holds rows of {tuple(self.shape)} {self.dtype}, "
                f"got {tuple(values.shape[1:])} {values.dtype}; give every row the same shape and dtype."
            )

    def encode(self, values: Tensor) -> Parts:
        return self._codec.encode(label(self.key), values.detach())

    def write(self, slots: Tensor, encoded: Parts | None) -> None:
        """Overwrite ``slots``; rows that lack the column become zeros, whatever lay there before."""
        for name, column in self.parts.items():
            if encoded is None:
                column.index_fill_(0, slots, 0)
            else:
                column.index_copy_(0, slots, encoded[name].to(column.device))

    def stored(self, slots: Tensor) -> Parts:
        """Codes of the rows in ``slots``."""
        return {name: column.index_select(0, slots) for name, column in self.parts.items()}

    def decode(self, parts: Parts) -> Tensor:
        return self._codec.decode(parts, self.dtype)


class Store:
    """All columns of a memory. Rows are addressed by slot; which slots are in use, the memory knows."""

    def __init__(self, storage: Storage, codecs: dict[str, str]) -> None:
        self.storage = storage
        self.codecs = codecs
        self.columns: dict[Key, Column] = {}
        self.rows = 0  # slots that every column has room for

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in all columns."""
        return sum(column.row_bytes for column in self.columns.values())

    def missing(self, batch: Batch) -> dict[Key, Column]:
        """Columns, still without room, for what ``batch`` brings and the store has not.

        Raises InputError where rows do not fit their column, or a codec cannot hold them.
        """
        new = {}
        if not self.columns:
            self._warn_of_unused_codecs(batch)
        for key, values in tensors_of(batch).items():
            column = self.columns.get(key)
            if column is None:
                new[key] = self.column(key, tuple(values.shape[1:]), values.dtype)
            else:
                column.check(values)
        return new

    def _warn_of_unused_codecs(self, batch: Batch) -> None:
        # A column may come with a later batch, so this is no error.
        named = sorted({*batch.inputs, *batch.extras})
        for name in sorted(set(self.codecs) - set(named)):
            message = f"memory codecs: the first rows have no {name!r}, they have {named}; misspelt, or yet to come?"
            warnings.warn(message, stacklevel=5)

    def column(self, key: Key, shape: tuple[int, ...], dtype: torch.dtype) -> Column:
        """A column without room, stored by the codec of its name. Raises InputError where the codec cannot."""
        codec = self.codecs.get(key[1], "raw") if key[0] in ("inputs", "extras") else "raw"
        return Column(key, shape, dtype, codec, {})

    def extra(self, name: str) -> Column:
        """The column of an extra. Raises UnknownNameError where it is not stored."""
        column = self.columns.get(("extras", name))
        if column is None:
            raise unknown_name("stored extra", name, [n for kind, n in self.columns if kind == "extras"])
        return column

    def values(self, name: str, values: Tensor, rows: int) -> Tensor:
        """New values [rows, …] of an extra, where the columns lie. Raises InputError where they do not fit."""
        column = self.extra(name)
        if not isinstance(values, Tensor) or values.ndim == 0 or len(values) != rows:
            got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(f"memory: expected {rows} rows in extra {name!r}, as in index, got {got}.")
        column.check(values)
        return values.detach().to(self.storage.device)

    def prepare(self, new: Mapping[Key, Column], rows: int) -> None:
        """Room for ``rows`` slots in every column and in ``new`` ones, zeros in all rows of those.

        An error leaves the columns as they were.
        """
        grows = list(new.values()) + (list(self.columns.values()) if rows > self.rows else [])
        grown = [self._parts(column, max(rows, self.rows)) for column in grows]
        for column, parts in zip(grows, grown, strict=True):
            column.parts = parts
        self.rows = max(rows, self.rows)

    def make_room(self, stays: np.ndarray, n: int, new: Mapping[Key, Column], capacity: int) -> np.ndarray:
        """n free slots, the lowest, beside those that ``stays`` names; the columns grow by doubling."""
        self.storage.ready()
        taken = np.concatenate([stays, self.storage.frozen])
        used = np.zeros(max(self.rows, int(taken.max(initial=-1)) + 1) + n, dtype=bool)
        used[taken] = True
        slots = np.flatnonzero(~used)[:n]
        size = int(slots.max(initial=-1)) + 1
        self.prepare(new, max(size, min(capacity, 2 * self.rows)) if size > self.rows else self.rows)
        return slots

    def encode(self, batch: Batch, new: Mapping[Key, Column]) -> dict[Key, Parts | None]:
        """Codes of all rows of ``batch`` for every column, ``new`` ones too; None where the batch lacks it."""
        values = tensors_of(batch)
        columns = {**self.columns, **new}
        return {key: column.encode(values[key]) if key in values else None for key, column in columns.items()}

    def write(self, slots: Tensor, encoded: Mapping[Key, Parts | None]) -> None:
        """Overwrite ``slots`` in every column."""
        slots = slots.to(self.storage.device)
        for key, column in self.columns.items():
            column.write(slots, encoded[key])
        self.storage.wrote(slots)

    def rewrite(self, slots: Tensor, encoded: Mapping[str, Parts]) -> None:
        """Overwrite ``slots`` in some extras."""
        for name, parts in encoded.items():
            self.extra(name).write(slots, parts)
        self.storage.wrote(slots)

    def writable(self, slots: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Slots [places] that may be written to, with the same rows: those that a state refers to are copied."""
        self.storage.ready()
        mine = slots[places].copy()
        frozen = np.flatnonzero(np.isin(mine, self.storage.frozen))
        if len(frozen):
            free = self.make_room(slots, len(frozen), {}, 0)
            here, there = torch.from_numpy(mine[frozen]), torch.from_numpy(free)
            for column in self.columns.values():
                column.write(there, column.stored(here))
            mine[frozen] = free
        return mine

    def wider(self, name: str, width: int) -> Column:
        """A column like that of an extra, without room, whose rows have ``width`` entries in their last axis."""
        column = self.extra(name)
        if not column.shape or width < column.shape[-1]:
            raise InputError(
                f"memory: extra {name!r} has rows of {column.shape}; they can be widened to more entries, not {width}."
            )
        return self.column(column.key, (*column.shape[:-1], width), column.dtype)

    def widen(self, wider: Column) -> None:
        """Put a column of ``wider`` in the place of the old one, zeros behind its entries."""
        old = self.columns[wider.key]
        wider.parts = dict(old.parts)  # scales stay where they are: one part is replaced or none
        for name, (shape, dtype) in wider.layout.items():
            if shape != tuple(old.parts[name].shape[1:]):
                part = self.storage.replace(wider.key, name, self.rows, shape, dtype)
                part[..., : old.shape[-1]].copy_(old.parts[name])
                wider.parts[name] = part
        self.columns[wider.key] = wider

    def pack(self, slots: Tensor) -> bool:
        """Move the rows of ``slots`` to the front and give the room behind them back; files keep theirs."""
        if not self.storage.packs:
            return False
        for column in self.columns.values():
            column.parts = {name: self.storage.adopt(column.key, name, x) for name, x in column.stored(slots).items()}
        self.rows = len(slots)
        return True

    def batch(self, slots: Tensor, index: Tensor, device: torch.device) -> Batch:
        """The rows in ``slots``, decoded, on ``device``."""
        slots = slots.to(self.storage.device, non_blocking=True)
        take = self.storage.take
        named: dict[str, dict[str, Tensor]] = {"inputs": {}, "present": {}, "extras": {}, "target": {}, "task": {}}
        for (kind, name), column in self.columns.items():
            parts = {part: take(x, slots, device) for part, x in column.parts.items()}
            named[kind][name] = column.decode(parts)
        return _trusted(
            inputs=named["inputs"],
            target=named["target"][""],
            task=named["task"][""],
            present=named["present"],
            index=index.to(device, non_blocking=True),
            fresh=0,
            extras=named["extras"],
        )

    def state(self, slots: Tensor) -> dict[str, Any]:
        """Codes of the rows in ``slots``: {kind: {name: tensor, or {part: tensor}}}."""
        slots = slots.to(self.storage.device)
        state: dict[str, Any] = {"inputs": {}, "present": {}, "extras": {}}
        for (kind, name), column in self.columns.items():
            parts = column.stored(slots)
            value = parts["codes"] if len(parts) == 1 else parts
            if kind in _SINGLE:
                state[kind] = value
            else:
                state[kind][name] = value
        return state

    def describe(self) -> dict[str, dict[str, list[str]]]:
        """Codec and dtype of the columns that are not stored raw, for a state."""
        told: dict[str, dict[str, list[str]]] = {"inputs": {}, "extras": {}}
        for (kind, name), column in self.columns.items():
            if column.codec != "raw":
                told[kind][name] = [column.codec, str(column.dtype).removeprefix("torch.")]
        return told

    def load(self, state: dict[str, Any], rows: int) -> None:
        """Take the columns of ``state``, which have ``rows`` rows, in place of the own ones."""
        told = state.get("codecs", {})
        missing = {"inputs", "present", "extras", *_SINGLE} - set(state)
        if missing or set(state["inputs"]) != set(state["present"]):
            names = ", ".join(sorted(missing)) or "presence of a modality"
            raise CheckpointError(f"memory: the state is damaged: it has no {names}.")
        columns = {}
        for kind in ("inputs", "present", "extras", *_SINGLE):
            for name, value in ({"": state[kind]} if kind in _SINGLE else state[kind]).items():
                codec, dtype = told.get(kind, {}).get(name, ("raw", ""))
                columns[kind, name] = self._loaded((kind, name), value, codec, dtype, rows)
        self.columns, self.rows = columns, rows

    def _loaded(self, key: Key, value: Any, codec: str, dtype: str, rows: int) -> Column:
        parts = value if isinstance(value, dict) else {"codes": value}
        if not all(isinstance(x, Tensor) and x.ndim > 0 and len(x) == rows for x in parts.values()):
            raise CheckpointError(f"memory: the state is damaged: {label(key)} has not the {rows} rows of the others.")
        if "codes" not in parts:
            raise CheckpointError(f"memory: the state is damaged: {label(key)} has no codes.")
        codes = parts["codes"]
        wanted = getattr(torch, dtype) if dtype else codes.dtype
        column = Column(key, tuple(codes.shape[1:]), wanted, codec, {})
        found = {name: (tuple(x.shape[1:]), x.dtype) for name, x in parts.items()}
        if found != column.layout:
            raise CheckpointError(f"memory: the state is damaged: {label(key)} is not what codec {codec!r} writes.")
        column.parts = {name: self.storage.adopt(key, name, x) for name, x in parts.items()}
        return column

    def _parts(self, column: Column, rows: int) -> Parts:
        return {
            name: self.storage.grow(column.key, name, column.parts.get(name), rows, shape, dtype)
            for name, (shape, dtype) in column.layout.items()
        }


def _trusted(**columns: Any) -> Batch:
    """A Batch of columns that are known to fit: its checks would cost a tenth of a draw."""
    batch = object.__new__(Batch)
    batch.__dict__.update(columns)
    return batch
