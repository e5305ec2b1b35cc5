"""The files that `pyfast-mmcl train` leaves beside its record: metrics as JSON and CSV, plots, the page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .. import __version__
from ..metrics.continual import accuracy_after_each, forgetting_of_each
from ..metrics.definitions import DEFINITIONS
from ..train import History
from . import export, pages, plots, runs
from .measures import COSTS

METRICS, PLOTS = "metrics", "plots"


def write(folder: Path, history: History) -> None:
    """Write everything that is read off a finished run's history; each file is whole or absent.

    metrics.json      measures by name, costs, and the formula of every measure
    metrics/*.csv     measures, accuracy matrix, losses, what each task took, accuracy by modality where it was measured
    plots/*           accuracy matrix, mean accuracy, forgetting of each task and losses, as .svg and .png
    report.html       the page of the run
    """
    runs.write_json(folder / "metrics.json", metrics(history))
    (folder / METRICS).mkdir(exist_ok=True)
    for name, text in tables(history).items():
        _write(folder / METRICS / f"{name}.csv", text)
    (folder / PLOTS).mkdir(exist_ok=True)
    for name, figure in drawings(history).items():
        for kind in ("svg", "png"):
            with runs.whole_file(folder / PLOTS / f"{name}.{kind}") as stream:
                plots.save(figure, stream, kind)
    pages.build(folder)


def metrics(history: History) -> dict[str, Any]:
    """What metrics.json holds; a measure that is undefined (forgetting of one task) is null."""
    costs = {cost.name: cost.amount(history) for cost in COSTS}
    return {
        "kind": "pyfast_mmcl metrics",
        "version": __version__,
        "method": history.method,
        "scenario": history.scenario,
        "seed": history.seed,
        "tasks": history.tasks,
        "measures": {name: _or_none(value) for name, value in history.summary().items()},
        "costs": {name: value for name, value in costs.items() if value is not None},
        "definitions": {d.name: f"{d.formula} ({d.reported_by})" for d in DEFINITIONS},
    }


def tables(history: History) -> dict[str, str]:
    """Name → CSV text."""
    measures = [(name, export.exact(value)) for name, value in history.summary().items()]
    measures += [(cost.name, export.exact(cost.amount(history))) for cost in COSTS]
    losses = [
        (epoch["task"], epoch["epoch"], name, export.exact(mean))
        for epoch in history.losses
        for name, mean in epoch["terms"].items()
    ]
    found = {
        "measures": export.write_rows(["name", "value"], [pair for pair in measures if pair[1]]),
        "accuracy": export.matrix_csv(history),
        "losses": export.write_rows(["task", "epoch", "term", "mean"], losses),
        "tasks": _tasks(history),
    }
    if history.by_modality:
        found["modalities"] = _modalities(history)
    return found


def drawings(history: History) -> dict[str, Figure]:
    """Name → figure."""
    matrix, method = history.accuracy_matrix, history.method
    found = {
        "accuracy_matrix": plots.accuracy_matrices({method: matrix}),
        "accuracy": plots.accuracy_curves({method: accuracy_after_each(matrix).tolist()}),
    }
    if len(matrix) > 1:
        groups = [f"task {j + 1}" for j in range(len(matrix) - 1)]
        found["forgetting"] = plots.bars({method: 100 * forgetting_of_each(matrix)}, groups, y="forgotten (points)")
    names = list(dict.fromkeys(name for epoch in history.losses for name in epoch["terms"]))
    if names:
        terms = {name: [epoch["terms"].get(name) for epoch in history.losses] for name in names}
        found["losses"] = plots.losses({name: np.array(values, dtype=float).tolist() for name, values in terms.items()})
    return found


def _tasks(history: History) -> str:
    """A row per task: what it took."""
    columns = {
        "seconds": history.seconds,
        "peak_memory_bytes": history.peak_memory,
        "kept_bytes": history.kept_bytes,
        "trainable_parameters": history.trainable_parameters,
        "parameters": history.parameters,
        "epochs": history.epochs,
    }
    full = {name: values for name, values in columns.items() if len(values) == len(history.tasks)}
    rows = [[task, *(values[i] for values in full.values())] for i, task in enumerate(history.tasks)]
    return export.write_rows(["task", *full], rows)


def _modalities(history: History) -> str:
    """A row per modality and stage: accuracy on every task from that modality alone."""
    rows = [
        [modality, after, *map(export.exact, row)]
        for modality, matrix in history.by_modality.items()
        for after, row in zip(history.tasks, matrix, strict=False)
    ]
    return export.write_rows(["modality", "after", *history.tasks], rows)


def _write(path: Path, text: str) -> None:
    with runs.whole_file(path) as stream:
        stream.write(text.encode())


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
