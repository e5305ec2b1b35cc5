"""Datasets of modality dictionaries: columns in memory, or any indexable object read row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError

TARGET = "target"


class Records:
    """N examples as one tensor per modality: batches are gathered without a Python loop over rows.

    modalities  {name: [N, …]} tensors or NumPy arrays; target [N] or [N, S] integers;
    present     {name: bool [N]} for modalities that some rows lack (default: nothing is missing);
    prepare     {name: function of rows [B, …]} applied when rows are read, such as ``images.pixels`` to keep bytes.
    Raises InputError for unequal lengths, no rows, or NaN and infinity in rows that are present.
    """

    def __init__(
        self,
        modalities: Mapping[str, Tensor | np.ndarray],
        target: Tensor | np.ndarray,
        *,
        present: Mapping[str, Tensor | np.ndarray] | None = None,
        prepare: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self.target = as_target(target)
        self.prepare = dict(prepare or {})
        self.columns = {name: as_column(f"modality {name!r}", column) for name, column in modalities.items()}
        rows = len(self.target)
        if not self.columns:
            raise InputError("records: expected at least one modality, got none.")
        if TARGET in self.columns:
            raise InputError(f"records: {TARGET!r} is no modality name; pass the labels as target=.")
        for what, given in (("present", present or {}), ("prepare", self.prepare)):
            unknown = set(given) - set(self.columns)
            if unknown:
                raise InputError(
                    f"records: {what} names {sorted(unknown)}, which are no modalities ({sorted(self.columns)})."
                )
        self.present = {
            name: as_column(f"presence of {name!r}", (present or {}).get(name, np.ones(rows, bool))).to(torch.bool)
            for name in self.columns
        }
        for name, column in self.columns.items():
            if len(column) != rows or len(self.present[name]) != rows:
                raise InputError(
                    f"records: target has {rows} rows, modality {name!r} has {len(column)}; give equal lengths."
                )
            check_finite(name, column, self.present[name])

    @classmethod
    def stack(cls, dataset: Any) -> Records:
        """Read every row of an indexable dataset once and keep the columns in memory."""
        rows = RowRecords(dataset)
        inputs, present, target = rows.gather(torch.arange(len(rows)))
        return cls(inputs, target, present=present)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        """Example ``row`` as a dictionary of its modalities and its target."""
        inputs, present, target = self.gather(torch.tensor([row]))
        return {**{name: x[0] for name, x in inputs.items() if present[name][0]}, TARGET: target[0]}

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def gather(self, rows: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Inputs, presence and target of ``rows`` [B]; a missing modality is zeros."""
        inputs, present = {}, {}
        for name, column in self.columns.items():
            present[name] = self.present[name][rows]
            read = column[rows]
            inputs[name] = blank(self.prepare[name](read) if name in self.prepare else read, present[name])
        return inputs, present, self.target[rows]


class RowRecords:
    """Any indexable dataset whose rows are dictionaries {modality: array, …, "target": label}.

    A row lacks a modality when its key is absent or None. Without ``target`` [N] the dataset is read through once to
    learn labels and modalities; with it, the modalities are those of row 0, or of the example row ``like``, and rows
    are read only when needed.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        target: Tensor | np.ndarray | None = None,
        like: Mapping[str, Tensor] | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"dataset: expected len() and indexing by row, got {type(dataset).__name__}.")
        if isinstance(dataset, Mapping) and 0 not in dataset:
            raise InputError(
                "dataset: expected rows by number, got a dictionary; columns go into Records(columns, target)."
            )
        if len(dataset) == 0:
            raise InputError("dataset: expected at least one row, got an empty dataset.")
        self.dataset = dataset
        scanned = self._read(torch.arange(len(dataset) if target is None else 0 if like else 1))
        self._like = {
            name: as_column(f"modality {name!r}", value)
            for row in reversed(scanned)
            for name, value in row.items()
            if name != TARGET and value is not None
        } | dict(like or {})
        if target is None:
            target = _stack_targets([row[TARGET] for row in scanned])
        self.target = as_target(target)
        if len(self.target) != len(dataset):
            raise InputError(f"dataset: {len(dataset)} rows but {len(self.target)} targets; give one target per row.")

    def __len__(self) -> int:
        return len(self.target)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self._like)

    def gather(self, rows: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Inputs, presence and target of ``rows`` [B]; a missing modality is zeros."""
        read = self._read(rows)
        inputs, present = {}, {}
        for name, like in self._like.items():
            values = [row.get(name) for row in read]
            present[name] = torch.tensor([value is not None for value in values])
            filled = [
                torch.zeros_like(like) if value is None else as_column(f"modality {name!r}", value) for value in values
            ]
            if any(value.shape != like.shape for value in filled):
                shapes = sorted({tuple(value.shape) for value in filled})
                raise InputError(
                    f"dataset: modality {name!r} has rows of shapes {shapes}; pad or resize them to one shape."
                )
            inputs[name] = torch.stack(filled)
            check_finite(name, inputs[name], present[name], rows)
        return inputs, present, self.target[rows]

    def _read(self, rows: Tensor) -> list[Mapping[str, Any]]:
        wanted = rows.tolist()
        # torch's own protocol for datasets that can fetch many rows at once.
        fetch = getattr(self.dataset, "__getitems__", None)
        read = fetch(wanted) if fetch is not None else [self.dataset[row] for row in wanted]
        for row, values in zip(wanted, read, strict=True):
            if not isinstance(values, Mapping) or TARGET not in values:
                got = f"keys {sorted(values)}" if isinstance(values, Mapping) else type(values).__name__
                raise InputError(f"dataset: row {row} must be a dictionary of modalities with a 'target', got {got}.")
        return read


def as_records(dataset: Any) -> Records | RowRecords:
    """``dataset`` as it is when it holds columns already, wrapped otherwise."""
    return dataset if isinstance(dataset, Records | RowRecords) else RowRecords(dataset)


def as_target(target: Tensor | np.ndarray | Sequence[int]) -> Tensor:
    """Labels as int64 [N] or [N, S]; raises InputError for non-integers, negatives and empty input."""
    column = as_column("target", target)
    if column.is_floating_point() or column.ndim == 0 or column.numel() == 0:
        raise InputError(f"target: expected integer labels [N], got {column.dtype} of shape {tuple(column.shape)}.")
    if int(column.min()) < 0:
        raise InputError(f"target: expected labels from 0, got {int(column.min())}; shift or drop these rows.")
    return column.to(torch.int64)


def _stack_targets(values: list[Any]) -> Tensor:
    columns = [as_column("target", value) for value in values]
    if len({column.shape for column in columns}) > 1:
        shapes = sorted({tuple(column.shape) for column in columns})
        raise InputError(f"dataset: targets have shapes {shapes}; pad them to one shape.")
    return torch.stack(columns)


def as_column(name: str, values: Any) -> Tensor:
    """``values`` as a tensor; raises InputError for what is no array of numbers."""
    try:
        column = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"records: {name} is no array of numbers ({error}); convert it first.") from error
    if column.is_complex():
        raise InputError(f"records: {name} is complex; give real and imaginary parts as separate features.")
    return column


def check_finite(name: str, column: Tensor, present: Tensor, rows: Tensor | None = None) -> None:
    """Raise InputError when a present row of a floating column holds NaN or infinity; rows [B]: their numbers."""
    if column.is_floating_point():
        bad = ~torch.isfinite(column.flatten(1) if column.ndim > 1 else column[:, None]).all(1) & present
        if bool(bad.any()):
            row = int(bad.nonzero()[0]) if rows is None else int(rows[bad][0])
            raise InputError(
                f"records: modality {name!r} is not finite in row {row}; clean it or mark the row as missing."
            )


def blank(column: Tensor, present: Tensor) -> Tensor:
    """Zeros where a row is not present, so that hidden values cannot leak into a model."""
    if bool(present.all()):
        return column
    keep = present.reshape(-1, *[1] * (column.ndim - 1))
    return torch.where(keep, column, torch.zeros((), dtype=column.dtype))
