"""The columns of a table as records: kept in memory where they are small, else read row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyfast_mmcl.data.columns import Column
from pyfast_mmcl.data.images import pixels
from pyfast_mmcl.data.records import TARGET, Records, RowRecords

# Rows that units are taken from: enough for a mean, few enough to be read twice.
_ROWS_OF_UNITS = 1024


@dataclass(frozen=True, eq=False)
class Units:
    """rows [B, …] → (rows − center) / spread."""

    center: Tensor
    spread: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        return (rows.to(torch.float32) - self.center) / self.spread


class TableRecords:
    """Rows of columns, in memory where files take at most ``keep`` bytes, else read when they are needed.

    ``records`` is what a stream takes. Pictures are shown in [0, 1]; ``set_units`` gives numbers, arrays and sound
    mean 0 and standard deviation 1.
    """

    def __init__(self, columns: Sequence[Column], target: Tensor, keep: int) -> None:
        self._columns = columns
        self._prepare: dict[str, Callable[[Tensor], Tensor]] = {
            column.name: pixels for column in columns if column.kind == "image"
        }
        self._target = target
        size = sum(column.row_bytes for column in columns if column.values is None) * len(target)
        self.records: Records | RowRecords
        if size > keep:
            self.records = RowRecords(self, target=target, like={c.name: self._shown(c, c.like()) for c in columns})
            return
        self.records = Records(
            {column.name: column.stack() for column in columns},
            target,
            present={column.name: column.present for column in columns},
        )
        self.records.prepare = self._prepare

    def __len__(self) -> int:
        return len(self._target)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        row = {c.name: self._shown(c, c.checked(i)) for c in self._columns if bool(c.present[i])}
        return {**row, TARGET: self._target[i]}

    def set_units(self, rows: Tensor) -> None:
        """Show numbers, arrays and sound in units of ``rows``, the first 1,024 of those that are present.

        A vector has a mean of its own per number, a column of several axes one per entry of the first axis.
        """
        for column in self._columns:
            if column.kind in ("image", "text"):
                continue
            chosen = rows[column.present[rows]][:_ROWS_OF_UNITS].tolist()
            if not chosen or not column.like().is_floating_point():
                continue
            held = self.records.columns[column.name] if isinstance(self.records, Records) else None
            x = torch.stack([column.checked(i) for i in chosen]) if held is None else held[chosen]
            axes = (0, *range(2, x.ndim))
            x = x.to(torch.float64)
            center, spread = x.mean(axes, keepdim=True), x.std(axes, keepdim=True, correction=0)
            spread = torch.where(spread > 0, spread, torch.ones_like(spread))
            self._prepare[column.name] = Units(center.to(torch.float32), spread.to(torch.float32))

    def _shown(self, column: Column, row: Tensor) -> Tensor:
        prepare = self._prepare.get(column.name)
        return row if prepare is None else prepare(row.unsqueeze(0))[0]
