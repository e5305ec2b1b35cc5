"""Columns in memory-mapped files: as many rows as fit on a disk, and states that refer to them."""

from __future__ import annotations

import os
import secrets
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.train.files import flush
from pyfast_mmcl.train.memory.columns import Column, Key

_CHUNK = 1 << 22


class Mapped:
    """One file per column in a folder of its own under ``folder``; rows are written in place and never in a state's.

    A file grows by doubling, and its blocks are reserved before rows are written: a full disk is an error then and
    there, and nothing is lost. ``freeze`` flushes everything and makes a state that refers to slots; the slots of the
    last two different states stay as they are (a run may die while it saves the last one), so that the files have room
    for up to two more generations of rows than the memory keeps. Every write stamps its slots with a random number,
    and a slot that may be overwritten loses its stamp on the disk first: a state whose rows are gone is refused, never
    mixed with others. Of the memories that resumed from one state, the one that writes first goes on; the others are
    told with an error before they read or write again.
    """

    packs = False

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.device = torch.device("cpu")
        self.frozen = np.zeros(0, dtype=np.int64)
        self._above = folder
        self._name = name or f"map-{secrets.token_hex(8)}"
        self._files: dict[tuple[Key, str], str] = {}
        self._stamps = torch.zeros(0, dtype=torch.int64)
        self._states: list[np.ndarray] = []  # slots of the last two states, the older one first
        self._owner: Tensor | None = None  # in a file: the number of the memory that writes
        self._number = secrets.randbits(63) | 1
        self._seen = self._number  # whose rows these are: the owner's, when a state was loaded
        self._written = True  # whether rows have been written since the last state
        self._last: dict[str, Any] = {}

    @property
    def folder(self) -> Path:
        return self._above / self._name

    def fresh(self) -> Mapped:
        return Mapped(self._above)

    def grow(
        self, key: Key, part: str, old: Tensor | None, rows: int, shape: tuple[int, ...], dtype: torch.dtype
    ) -> Tensor:
        if (key, part) not in self._files:
            # A name that no earlier or abandoned state of this folder can refer to.
            self._files[key, part] = f"{len(self._files)}-{secrets.token_hex(8)}.bin"
        self._still(self._files[key, part], old is not None)
        self._still("stamps.bin", len(self._stamps) > 0)
        column = self._open(self._files[key, part], rows, shape, dtype, grow=True)
        if rows > len(self._stamps):
            self._stamps = self._open("stamps.bin", rows, (), torch.int64, grow=True)
        if self._owner is None:
            self._owner = self._open("owner", 1, (), torch.int64, grow=True)
            self._owner[0] = self._number
        return column

    def adopt(self, key: Key, part: str, column: Tensor) -> Tensor:
        mine = self.grow(key, part, None, len(column), tuple(column.shape[1:]), column.dtype)
        return mine.copy_(column)

    def replace(self, key: Key, part: str, rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        was = self._files.pop((key, part))  # states refer to the old file
        try:
            mine = self.grow(key, part, None, rows, shape, dtype)
        except InputError:
            self._files[key, part] = was
            raise
        self._written = True
        return mine

    def take(self, column: Tensor, slots: Tensor, device: torch.device) -> Tensor:
        self._check_owner()
        return column.index_select(0, slots).to(device)

    def ready(self) -> None:
        self._check_owner()
        if self._owner is not None and self._seen != self._number:
            self._owner[0] = self._seen = self._number

    def wrote(self, slots: Tensor) -> None:
        self._stamps[slots] = secrets.randbits(63) | 1
        self._written = True

    def freeze(self, columns: dict[Key, Column], slots: np.ndarray) -> dict[str, Any]:
        """A state of the rows in ``slots``, on the disk."""
        if not self._written and self._states and np.array_equal(self._states[-1], slots):
            return self._last
        self.ready()
        if self._owner is not None and len(self._states) == 2:
            # The rows of the older state may go from now on: who reads them is told.
            self._number = self._seen = secrets.randbits(63) | 1
            self._owner[0] = self._number
        self._states = [*self._states[-1:], slots.copy()]
        self.frozen = np.unique(np.concatenate(self._states))
        free = torch.ones(len(self._stamps), dtype=torch.bool)
        free[torch.from_numpy(self.frozen)] = False
        self._stamps[free] = 0
        self._flush([self._files[key, part] for key, column in columns.items() for part in column.layout])
        self._written = False
        self._last = {
            "folder": self._name,
            "rows": len(self._stamps),
            "bytes_in_files": len(slots) * sum(column.row_bytes for column in columns.values()),
            "slots": torch.from_numpy(slots.copy()),
            "stamps": self._stamps[torch.from_numpy(slots)],
            "columns": [
                [*key, list(column.shape), str(column.dtype).removeprefix("torch."), column.codec]
                for key, column in columns.items()
            ],
            "files": [[self._files[key, part] for part in column.layout] for key, column in columns.items()],
        }
        return self._last

    def thaw(self, state: dict[str, Any], rows: int) -> tuple[dict[Key, Column], int, np.ndarray]:
        """Columns, room and slots of a state. Raises CheckpointError where the files do not have its rows any more."""
        missing = {"folder", "rows", "slots", "stamps", "columns", "files"} - set(state)
        if missing:
            raise CheckpointError(f"memory: the state is damaged: its map has no {', '.join(sorted(missing))}.")
        self._name = Path(state["folder"]).name
        room, slots = state["rows"], state["slots"].cpu().numpy().copy()
        if len(slots) != rows or len(np.unique(slots)) != rows or not (0 <= slots).all() or not (slots < room).all():
            raise CheckpointError("memory: the state is damaged: its slots are not one for each row.")
        self._stamps = self._open("stamps.bin", room, (), torch.int64, grow=False)
        if not torch.equal(self._stamps[torch.from_numpy(slots)], state["stamps"].cpu()):
            raise CheckpointError(
                f"memory map {self.folder}: the rows of this state have been overwritten since; resume from the last "
                f"checkpoint, or start a new run."
            )
        columns = {}
        for (kind, name, shape, dtype, codec), files in zip(state["columns"], state["files"], strict=True):
            column = Column((kind, name), tuple(shape), getattr(torch, dtype), codec, {})
            for (part, (part_shape, part_dtype)), file in zip(column.layout.items(), files, strict=True):
                self._files[column.key, part] = Path(file).name
                column.parts[part] = self._open(Path(file).name, room, part_shape, part_dtype, grow=False)
            columns[column.key] = column
        self._owner = self._open("owner", 1, (), torch.int64, grow=True)
        self._seen = int(self._owner[0])
        self._states, self.frozen = [slots.copy()], np.sort(slots)
        return columns, room, slots

    def _open(self, name: str, rows: int, shape: tuple[int, ...], dtype: torch.dtype, *, grow: bool) -> Tensor:
        path, size = self.folder / name, rows * prod(shape) * dtype.itemsize
        try:
            if grow:
                self.folder.mkdir(parents=True, exist_ok=True)
                _reserve(path, size)
            elif not path.is_file() or path.stat().st_size < size:
                raise CheckpointError(f"memory map {path} is missing or cut short: restore it, or start a new run.")
        except OSError as error:
            raise InputError(
                f"memory map {path}: no room for {rows} rows ({error}); free space, choose another folder or a "
                f"smaller budget."
            ) from error
        if size == 0:
            return torch.zeros((rows, *shape), dtype=dtype)
        try:
            values = torch.from_file(str(path), shared=True, size=size // dtype.itemsize, dtype=dtype)
        except RuntimeError as error:
            raise InputError(
                f"memory map {path} cannot be opened for reading and writing ({error}); make the folder writable, or "
                f"work with a copy of it."
            ) from error
        return values.view(rows, *shape)

    def _still(self, name: str, used: bool) -> None:
        if used and not (self.folder / name).is_file():
            raise InputError(
                f"memory map {self.folder / name} has been deleted while a memory was using it; start a new run, or "
                f"restore the folder and resume from the last checkpoint."
            )

    def _check_owner(self) -> None:
        if self._owner is not None and int(self._owner[0]) != self._seen:
            raise InputError(
                f"memory map {self.folder}: another memory that resumed from a state of it has written to it since; "
                f"use that one, or load the last checkpoint again."
            )

    def _flush(self, names: list[str]) -> None:
        try:
            for name in [*names, "stamps.bin"]:
                flush(self.folder / name)
            flush(self.folder)
            flush(self._above)
        except OSError as error:
            raise CheckpointError(
                f"memory map {self.folder} cannot be written to the disk: {error}; look after the disk."
            ) from error


def _reserve(path: Path, size: int) -> None:
    """Make ``path`` at least ``size`` bytes long, zeros behind what it has, its blocks taken from the disk."""
    with open(path, "ab") as file:
        have = file.tell()
        if have >= size:
            return
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), have, size - have)
                return
            for start in range(have, size, _CHUNK):
                file.write(bytes(min(_CHUNK, size - start)))
        except OSError:
            os.ftruncate(file.fileno(), have)
            raise
