"""Result files: one CSV per machine, family and operation, one row per case and contestant, kept in git."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

from benchmarks import families
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
FIGURES = (
    *("contestant", "role", "mode", "backend"),
    *("gate", "median_s", "min_s", "repeats", "first_s", "build_s", "gflops", "extra_mib", "held_mib"),
    *("threads", "env", "blas", "versions", "commit", "machine", "cores", "isa", "load", "date", "run"),
)
_INTEGERS = ("repeats", "threads", "cores")
_FLOATS = ("median_s", "min_s", "first_s", "build_s", "gflops", "extra_mib", "held_mib")
_NUMBERS = dict.fromkeys(_INTEGERS, int) | dict.fromkeys(_FLOATS, float)


def case_columns(op: str) -> tuple[str, ...]:
    """The columns that say which case a row is about: the family's own."""
    return families.of(op).cases.COLUMNS


def columns(op: str) -> tuple[str, ...]:
    """Every column of an operation's result file."""
    return (*case_columns(op), *FIGURES)


def path_of(machine: str, op: str, root: Path = RESULTS) -> Path:
    return root / machine / families.of(op).name / f"{op}.csv"


def case_key(row: dict) -> tuple:
    """What makes two rows the same case, whether they were read from a file or just measured."""
    return tuple(_text(row[column]) for column in case_columns(row["op"]))


def read(path: Path) -> list[dict]:
    """Rows with numbers as numbers; empty cells are None."""
    return parse(path.read_text()) if path.exists() else []


def parse(text: str) -> list[dict]:
    rows = []
    for raw in csv.DictReader(io.StringIO(text)):
        wanted = columns(raw["op"]) if raw.get("op") else FIGURES
        absent = [name for name in wanted if name not in raw]
        if absent:
            raise ValueError(f"not a result file of this version: column {absent[0]!r} is missing")
        numbers = _NUMBERS | dict.fromkeys(families.of(raw["op"]).cases.SIZES, int)
        rows.append({name: _value(raw[name], numbers.get(name, str)) for name in wanted})
    return rows


def _value(text: str, kind: Callable):
    return None if text == "" else kind(text)


def write(path: Path, rows: list[dict]) -> None:
    """Whole file at once, through a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        names = columns(rows[0]["op"])
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        table.writerows({name: _text(row.get(name)) for name in names} for row in rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _text(value) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def replace_case(path: Path, rows: list[dict]) -> None:
    """Put a case's rows in place of its older ones. All rows of a case stem from one interleaved run: a ratio never
    mixes two runs."""
    fresh = {case_key(row) for row in rows}
    kept = [row for row in read(path) if case_key(row) not in fresh]
    write(path, sorted([*kept, *rows], key=families.of(rows[0]["op"]).cases.order))
