"""Tables of a user's own examples: CSV, TSV, JSON and JSON lines as named columns, every damage one sentence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyfast_mmcl._errors import InputError, unknown_name

ENDINGS = (".csv", ".tsv", ".json", ".jsonl")
_SEPARATORS = ",;\t"
_PLAIN = (str, int, float, bool, list)


@dataclass(frozen=True)
class Table:
    """N rows of named cells; an empty cell is None. ``where`` [N] says where each row stands, for sentences.

    folder: what relative paths in the cells are relative to.
    """

    columns: dict[str, list[Any]]
    where: list[str]
    folder: Path

    def __len__(self) -> int:
        return len(self.where)

    def without(self, names: Iterable[str]) -> dict[str, list[Any]]:
        """The columns that are not among ``names``."""
        left_out = set(names)
        return {name: cells for name, cells in self.columns.items() if name not in left_out}


def read_table(path: str | Path) -> Table:
    """The table in a .csv, .tsv, .json or .jsonl file.

    Raises InputError for what is no table: another ending, no UTF-8, ragged rows, unnamed or repeated columns, no rows,
    damaged JSON.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise unknown_name(f"ending of the manifest {path.name}", path.suffix, ENDINGS)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); choose a file that exists.") from error
    if "\0" in text:
        raise InputError(f"{path.name} holds zero bytes, so it is no text; save it as UTF-8 text.")
    if not text.strip():
        raise InputError(f"{path.name} is empty; give it a header and at least one row.")
    reader = {".json": _read_json, ".jsonl": _read_json_lines}.get(path.suffix.lower(), _read_csv)
    columns, where = reader(text, path.name)
    if not where:
        raise InputError(f"{path.name} has a header and no rows; add at least one row.")
    return Table({name: [_cell(cell) for cell in cells] for name, cells in columns.items()}, where, path.parent)


def _read_csv(text: str, name: str) -> tuple[dict[str, list[Any]], list[str]]:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, where = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                where.append(f"{name} line {reader.line_num}")
    except csv.Error as error:
        raise InputError(f"{name} line {reader.line_num}: {error}; check the quotes there.") from error
    if not rows:
        raise InputError(f"{name} has no cell with anything in it; give it a header and at least one row.")
    header = [cell.strip() for cell in rows[0]]
    _check_header(header, name)
    for row, place in zip(rows[1:], where[1:], strict=True):
        if len(row) != len(header):
            raise InputError(
                f"{place}: expected {len(header)} cells as in the header, got {len(row)}; put cells that hold "
                f"{separator!r} in quotes."
            )
    return {key: [row[i] for row in rows[1:]] for i, key in enumerate(header)}, where[1:]


def _check_header(header: Sequence[str], name: str) -> None:
    if "" in header:
        raise InputError(f"{name}: column {list(header).index('') + 1} of the header has no name; name every column.")
    twice = sorted({key for key in header if list(header).count(key) > 1})
    if twice:
        raise InputError(f"{name}: the header names {twice[0]!r} twice; rename one of the columns.")


def _read_json(text: str, name: str) -> tuple[dict[str, list[Any]], list[str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON ({error}); correct it there.") from error
    if isinstance(found, dict) and found and all(isinstance(cells, list) for cells in found.values()):
        lengths = {key: len(cells) for key, cells in found.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{name}: columns have different lengths {lengths}; give every column one cell per row.")
        return found, [f"{name} row {i + 1}" for i in range(next(iter(lengths.values())))]
    if not isinstance(found, list):
        raise InputError(f"{name}: expected a list of rows or an object of columns, got {_kind(found)}.")
    return _from_rows(found, [f"{name} row {i + 1}" for i in range(len(found))])


def _read_json_lines(text: str, name: str) -> tuple[dict[str, list[Any]], list[str]]:
    rows, where = [], []
    # Not splitlines(): it also splits at characters that may stand inside a JSON text.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{name} line {number} is no JSON ({error}); correct it there.") from error
            where.append(f"{name} line {number}")
    return _from_rows(rows, where)


def _from_rows(rows: list[Any], where: list[str]) -> tuple[dict[str, list[Any]], list[str]]:
    for row, place in zip(rows, where, strict=True):
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected an object with the cells of a row, got {_kind(row)}.")
        for key, cell in row.items():
            if cell is not None and not isinstance(cell, _PLAIN):
                raise InputError(f"{place}: {key!r} holds {_kind(cell)}; give text, a number or a list of numbers.")
    names = list(dict.fromkeys(key for row in rows for key in row))
    return {key: [row.get(key) for row in rows] for key in names}, where


def _cell(cell: Any) -> Any:
    """Text without blanks around it; None where nothing is left."""
    if isinstance(cell, str):
        return cell.strip() or None
    return cell


def _kind(value: Any) -> str:
    return {"dict": "an object", "list": "a list", "str": "text", "NoneType": "nothing"}.get(
        type(value).__name__, f"the value {value!r}"
    )
