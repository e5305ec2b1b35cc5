"""Result files: one CSV per operation and machine, one row per case and contestant, kept in git."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
FAMILY = "knn"

CASE_COLUMNS = ("op", "metric", "dtype", "N", "M", "D", "k", "K", "moving")
COLUMNS = (
    *CASE_COLUMNS,
    *("contestant", "role", "mode", "backend"),
    *("gate", "median_s", "min_s", "repeats", "first_s", "build_s", "gflops", "extra_mib", "held_mib"),
    *("threads", "env", "blas", "versions", "commit", "machine", "cores", "isa", "load", "date", "run"),
)
_INTEGERS = ("N", "M", "D", "k", "K", "repeats", "threads", "cores")
_FLOATS = ("median_s", "min_s", "first_s", "build_s", "gflops", "extra_mib", "held_mib")
_NUMBERS = dict.fromkeys(_INTEGERS, int) | dict.fromkeys(_FLOATS, float)


def path_of(machine: str, op: str, root: Path = RESULTS) -> Path:
    return root / machine / FAMILY / f"{op}.csv"


def case_key(row: dict) -> tuple:
    """What makes two rows the same case, whether they were read from a file or just measured."""
    return tuple(_text(row[column]) for column in CASE_COLUMNS)


def read(path: Path) -> list[dict]:
    """Rows with numbers as numbers; empty cells are None."""
    return parse(path.read_text()) if path.exists() else []


def parse(text: str) -> list[dict]:
    rows = []
    for raw in csv.DictReader(io.StringIO(text)):
        unknown = set(COLUMNS) - set(raw)
        if unknown:
            raise ValueError(f"not a result file of this version: column {sorted(unknown)[0]!r} is missing")
        rows.append({name: _value(name, raw[name]) for name in COLUMNS})
    return rows


def _value(column: str, text: str):
    if text == "":
        return None
    return _NUMBERS[column](text) if column in _NUMBERS else text


def write(path: Path, rows: list[dict]) -> None:
    """Whole file at once, through a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows({name: _text(row.get(name)) for name in COLUMNS} for row in rows)
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
    order = sorted(kept + list(rows), key=lambda row: (row["metric"], row["dtype"], *(row[c] or 0 for c in "MDNkK")))
    write(path, order)
