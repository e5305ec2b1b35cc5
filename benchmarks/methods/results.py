"""Result folders of method experiments, kept in git: about.json says what was done, runs.csv what came out.

runs.csv is long: a row per (stream, method, seed, measure). A new experiment adds a folder and changes no code here.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import machine
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.files import replace_text

RESULTS = machine.ROOT / "benchmarks" / "results" / "methods"
ABOUT, RUNS = "about.json", "runs.csv"
COLUMNS = ("stream", "method", "seed", "measure", "value", "commit", "date")


@dataclass(frozen=True)
class Column:
    """One measure as a column of a table. unit "%" shows a fraction as per cent; digits: decimals, None is %.3g."""

    measure: str
    title: str
    unit: str = ""
    digits: int | None = 1


@dataclass(frozen=True)
class Table:
    """Methods × measures, mean ± sd over seeds, once per stream."""

    title: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Experiment:
    """What was done: the name of its folder, its prose, its settings, and which measures its tables show.

    streams, methods: every name that a row may carry, in the order of the tables.
    notes: paragraphs below the tables, such as which claims of a paper hold.
    """

    name: str
    title: str
    text: str
    config: dict[str, Any]
    streams: tuple[str, ...]
    methods: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("torch", "numpy")


@dataclass(frozen=True)
class Row:
    """One measured number. commit and date are filled in by `record`."""

    stream: str
    method: str
    seed: int
    measure: str
    value: float
    commit: str = ""
    date: str = ""


@dataclass(frozen=True)
class Recorded:
    """A result folder as read: the experiment, where it ran ("machine", "cores", "threads", "versions"), its rows."""

    experiment: Experiment
    where: dict[str, Any]
    rows: list[Row] = field(default_factory=list)


def record(experiment: Experiment, rows: Iterable[Row], *, threads: int, root: Path = RESULTS) -> Path:
    """Put the rows of these (stream, method, seed) in place of their older ones; returns the folder.

    Files are replaced whole and atomically, so an experiment may be recorded run by run. Raises InputError for a name
    that the experiment does not list, and where the folder holds rows of other settings, versions or another machine:
    a table never mixes two set-ups.
    """
    rows = list(rows)
    folder, where = root / experiment.name, describe(experiment.packages, threads)
    kept: list[Row] = []
    if (folder / ABOUT).exists():
        old = read(folder)
        same = old.where == where and old.experiment.config == _plain(experiment.config)
        if old.rows and not same:
            raise InputError(
                f"{folder}: expected results of this machine with these settings and versions, got others; "
                "remove the folder to measure anew."
            )
        fresh = {(row.stream, row.method, row.seed) for row in rows}
        kept = [row for row in old.rows if (row.stream, row.method, row.seed) not in fresh]
    for row in (*kept, *rows):
        if row.stream not in experiment.streams or row.method not in experiment.methods:
            raise InputError(f"{experiment.name}: stream {row.stream!r} or method {row.method!r} is not one it lists.")
    folder.mkdir(parents=True, exist_ok=True)
    stamp = {"commit": commit(), "date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    stamped = kept + [dataclasses.replace(row, **stamp) for row in rows]
    stamped.sort(key=lambda row: (experiment.streams.index(row.stream), experiment.methods.index(row.method), row.seed))
    about = {**dataclasses.asdict(experiment), "where": where}
    replace_text(folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    replace_text(folder / RUNS, _csv(stamped))
    return folder


def read(folder: Path) -> Recorded:
    """A result folder. Raises InputError where it is not one of this version."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        where = about.pop("where")
        tables = tuple(Table(t["title"], tuple(Column(**c) for c in t["columns"])) for t in about.pop("tables"))
        names = {key: tuple(about.pop(key)) for key in ("streams", "methods", "notes", "packages")}
        experiment = Experiment(**about, **names, tables=tables)
        text = (folder / RUNS).read_text(encoding="utf-8") if (folder / RUNS).exists() else ""
        rows = [Row(**{**raw, "seed": int(raw["seed"]), "value": float(raw["value"])}) for raw in _lines(text)]
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: not a result folder of this version ({error}); measure it anew.") from error
    return Recorded(experiment, where, rows)


def folders(root: Path = RESULTS) -> list[Path]:
    """Every result folder, by name."""
    return sorted(path.parent for path in root.glob(f"*/{ABOUT}"))


def describe(packages: Iterable[str], threads: int) -> dict[str, Any]:
    """The machine and the versions that a result belongs to."""
    versions = {name: importlib.metadata.version(name) for name in ("pyfast_mmcl", *packages)}
    return {
        "machine": machine.cpu_model(),
        "cores": machine.cores(),
        "threads": threads,
        "versions": {"python": platform.python_version(), **versions},
    }


def commit() -> str:
    """Short commit, with "+" where the package or the experiments differ from it; empty outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=machine.ROOT, capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--", "csrc", "pyfast_mmcl", "benchmarks/methods")
        return git("rev-parse", "--short=10", "HEAD").strip() + ("+" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _lines(text: str) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(text))


def _csv(rows: list[Row]) -> str:
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    table.writeheader()
    # repr of a float is its exact value: equal runs give equal files
    table.writerows({**dataclasses.asdict(row), "value": repr(float(row.value))} for row in rows)
    return buffer.getvalue()


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from a file: tuples are lists there."""
    return json.loads(json.dumps(config))
