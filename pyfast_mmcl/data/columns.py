"""Columns of a table as modalities: files read when needed, numbers and texts held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.data.files import ENDINGS, READERS, Shapes, as_numbers, kind_of_file

KINDS = ("image", "audio", "array", "text", "number")


@dataclass
class Column:
    """One modality of N rows: ``read(i)`` from a file, ``texts`` [N] to be encoded, or ``values`` [N, …] at hand.

    present bool [N]: rows whose cell is not empty. where [N]: what sentences call a row.
    """

    name: str
    kind: str
    present: Tensor
    where: Sequence[str]
    read: Callable[[int], Tensor] | None = None
    texts: list[str] = field(default_factory=list)
    values: Tensor | None = None
    _like: Tensor | None = None

    def row(self, i: int) -> Tensor:
        """Row i as it is kept: pictures as bytes. Raises InputError, which says the row, for a damaged file."""
        if self.values is not None:
            return self.values[i]
        assert self.read is not None
        try:
            return self.read(i)
        except InputError as error:
            raise InputError(
                f"{self.where[i]}: {self.kind} {error}; replace the file or leave the cell empty."
            ) from error

    def like(self) -> Tensor:
        """The first row that is present."""
        if self._like is None:
            self._like = self.row(int(self.present.nonzero()[0]))
        return self._like

    def stack(self) -> Tensor:
        """All rows [N, …]; zeros where a cell is empty. Raises InputError for rows of two shapes."""
        if self.values is not None:
            return self.values
        like = self.like()
        out = torch.zeros((len(self.present), *like.shape), dtype=like.dtype)
        for i in self.present.nonzero().flatten().tolist():
            out[i] = self.checked(i)
        return out

    def checked(self, i: int) -> Tensor:
        """Row i. Raises InputError where it has another shape or type than the first one."""
        row = self.row(i)
        check_like(self.name, self.where[i], row, self.like())
        return row

    @property
    def row_bytes(self) -> int:
        like = self.like()
        return like.numel() * like.element_size()


def check_like(name: str, where: str, row: Tensor, like: Tensor) -> None:
    """Raise InputError for a row of another shape or type than the first one."""
    if row.shape != like.shape or row.dtype != like.dtype:
        raise InputError(
            f"{where}: {name} is {row.dtype} of shape {tuple(row.shape)}, the first row's is {like.dtype} of shape "
            f"{tuple(like.shape)}; give all rows one shape."
        )


def make_columns(cells: Mapping[str, list[Any]], where: Sequence[str], folder: Path, shapes: Shapes) -> list[Column]:
    """The modalities that columns {header: cells [N]} hold.

    A header "photo:image" names a modality and its kind; without a kind the cells tell it. Numbers in columns "imu.x",
    "imu.y", … are one modality "imu". Raises InputError for cells that are not of their column's kind, files that do
    not exist, columns that are empty, and modalities of one name.
    """
    columns: list[Column] = []
    numbers: dict[str, dict[str, list[Any]]] = {}
    for header, column in cells.items():
        name, _, kind = header.partition(":")
        name, kind = name.strip(), kind.strip()
        if not kind:
            kind = guess_kind(column)
            if kind == "text":
                _refuse_damaged_numbers(name, column, where)
        if kind not in KINDS:
            raise unknown_name(f"kind of column {header!r}", kind, KINDS)
        if all(cell is None for cell in column):
            raise InputError(f"column {header!r} is empty in every row; fill it in or leave it out.")
        if kind == "number":
            stem = name.partition(".")[0]
            numbers.setdefault(stem, {})[header] = column
        elif kind == "text":
            columns.append(text_column(name, column, where))
        else:
            columns.append(_file_column(name, kind, column, where, folder, shapes))
    columns += [number_column(name, group, where) for name, group in numbers.items()]
    names = [column.name for column in columns]
    for name in names:
        if not name or names.count(name) > 1:
            raise InputError(f"two columns make one modality {name!r}; rename one of them.")
    return columns


def guess_kind(cells: Sequence[Any]) -> str:
    """The kind that every cell fits: "image", "audio" or "array" by the ending, "number", else "text"."""
    given = [cell for cell in cells if cell is not None]
    kinds = {kind_of_file(cell) if isinstance(cell, str) else None for cell in given}
    # One file name among the cells is enough: a column of texts that end like pictures is unlikely, a typo is not.
    if kinds - {None}:
        return next(kind for kind in ENDINGS if kind in kinds)
    return "number" if given and all(_is_number(cell) for cell in given) else "text"


def _refuse_damaged_numbers(name: str, cells: Sequence[Any], where: Sequence[str]) -> None:
    """Raise InputError for a column of numbers with a word in it, or with decimal commas: as text it would be lost."""
    given = [(cell, place) for cell, place in zip(cells, where, strict=True) if cell is not None]
    alike = sum(_is_number(cell.replace(",", ".") if isinstance(cell, str) else cell) for cell, _ in given)
    if 2 * alike <= len(given):
        return
    cell, place = next((cell, place) for cell, place in given if not _is_number(cell))
    raise InputError(
        f"{place}: {name!r} is {cell!r} and most rows hold numbers; write a number with a decimal point, leave it "
        f"empty, or say {name}:text in the header."
    )


def _is_number(cell: Any) -> bool:
    if isinstance(cell, str):
        try:
            float(cell)
        except ValueError:
            return False
    return True


def text_column(name: str, cells: Sequence[Any], where: Sequence[str]) -> Column:
    for cell, place in zip(cells, where, strict=True):
        if isinstance(cell, list):
            raise InputError(f"{place}: {name!r} holds a list among texts; give text.")
    present = torch.tensor([cell is not None for cell in cells])
    return Column(name, "text", present, where, texts=["" if cell is None else str(cell) for cell in cells])


def _file_column(
    name: str, kind: str, cells: Sequence[Any], where: Sequence[str], folder: Path, shapes: Shapes
) -> Column:
    files = []
    for cell, place in zip(cells, where, strict=True):
        if cell is None:
            files.append(folder)
            continue
        if not isinstance(cell, str) or kind_of_file(cell) != kind:
            raise InputError(
                f"{place}: {name!r} is {cell!r}, other rows name {kind} files ({', '.join(ENDINGS[kind])}); give every "
                f"row such a file, or say {name}:text in the header."
            )
        files.append(folder / cell)
        if not files[-1].is_file():
            raise InputError(f"{place}: {kind} file {cell} is not in {folder}; correct the path or give root=.")
    present = torch.tensor([cell is not None for cell in cells])
    return Column(name, kind, present, where, read=lambda i: READERS[kind](files[i], shapes))


def number_column(name: str, group: Mapping[str, list[Any]], where: Sequence[str]) -> Column:
    rows, present = [], []
    for i, place in enumerate(where):
        cells = [column[i] for column in group.values()]
        empty = [header for header, cell in zip(group, cells, strict=True) if cell is None]
        if empty and len(empty) < len(cells):
            raise InputError(
                f"{place}: {empty[0]!r} is empty and other numbers of {name!r} are not; fill in all or none."
            )
        present.append(not empty)
        rows.append(None if empty else _numbers(cells, group, place))
    like = next(row for row in rows if row is not None)
    for row, place in zip(rows, where, strict=True):
        if row is not None:
            check_like(name, place, row, like)
    values = torch.stack([torch.zeros_like(like) if row is None else row for row in rows])
    return Column(name, "number", torch.tensor(present), where, values=values)


def _numbers(cells: Sequence[Any], headers: Mapping[str, Any], where: str) -> Tensor:
    """A row's numbers as float32: one cell with a list keeps the shape of the list, several cells make a vector."""
    try:
        if len(cells) == 1 and isinstance(cells[0], list):
            row = as_numbers(cells[0], "the list").to(torch.float32)
        else:
            row = torch.tensor([float(cell) for cell in cells], dtype=torch.float64).to(torch.float32)
    except (TypeError, ValueError, OverflowError, InputError) as error:
        raise InputError(f"{where}: {next(iter(headers))!r} is no number or list of numbers ({error}).") from error
    if not bool(torch.isfinite(row).all()):
        raise InputError(
            f"{where}: {next(iter(headers))!r} is not finite, or too large for float32; correct it or leave it empty."
        )
    return row
