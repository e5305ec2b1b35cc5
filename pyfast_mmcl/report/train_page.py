"""The page of one training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..train import History
from . import blocks, chart, export, html
from .collect import Collected, Run, show
from .measures import number
from .pooled import Pool, pools
from .tables import percent

_HEADLINES = ("last_accuracy", "forgetting", "backward_transfer", "forward_transfer")


def train_page(record: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The page of `pyfast-mmcl train`: measures, accuracy matrix, curves, losses, cost, options, exports."""
    history = History.from_dict(dict(results))
    versions = record.get("versions")
    run = Run("this run", dict(record["options"]), versions if isinstance(versions, dict) else {}, history)
    found = Collected([run])
    ((pool,),) = pools(found).values()
    summary = history.summary()
    cards = [(percent(summary[name]), name.replace("_", " ")) for name in _HEADLINES if name in summary]
    sections = [
        html.cards(cards),
        html.section("Accuracy", *blocks.stream_blocks([pool], chart.marks([pool.label]))),
        html.section("Loss", *_losses(history)),
        html.section("Cost per task", _tasks(history)),
        html.section("Options", _options(run)),
        html.section("Definitions", blocks.definitions()),
        html.section("Export", _exports(found, pool)),
    ]
    versions_line = ", ".join(f"{name} {value}" for name, value in run.versions.items())
    return html.page(f"Training run: {run.method}", run.stream + ".", sections, f"{versions_line}; seed {run.seed}.")


def _losses(history: History) -> list[str]:
    """Mean of each term per epoch, all tasks in a row."""
    names = list(dict.fromkeys(name for epoch in history.losses for name in epoch["terms"]))
    if not names:
        return [html.paragraph("This method takes no gradient steps.")]
    none = [np.nan] * len(history.losses)
    series = {
        name: chart.Line([_value(epoch["terms"].get(name)) for epoch in history.losses], none, none) for name in names
    }
    looks = chart.marks(names)
    ends = ", ".join(f"{name} ends at {line.values[-1]:.3g}" for name, line in series.items())
    drawing = chart.lines(series, looks, x="epoch, all tasks in a row", y="loss term", alt=f"Loss terms: {ends}")
    return [
        chart.legend(looks),
        blocks.charts([blocks.figure(drawing, "Mean of each term over the steps of an epoch.")]),
    ]


def _value(term: float | None) -> float:
    return np.nan if term is None else term


def _tasks(history: History) -> str:
    """What every task took."""
    columns: list[tuple[str, Sequence[float], float, int]] = [
        ("seconds", history.seconds, 1, 2),
        ("peak memory (MiB)", history.peak_memory, 2**20, 0),
        ("kept (MiB)", history.kept_bytes, 2**20, 2),
        ("trainable parameters", history.trainable_parameters, 1, 0),
        ("parameters", history.parameters, 1, 0),
        ("epochs", history.epochs, 1, 0),
    ]
    # Records of older versions say less; a method that stopped early may have fewer entries.
    shown = [column for column in columns if len(column[1]) == len(history.tasks)]
    rows = [
        (name, *(number(values[i] / unit, digits) for _, values, unit, digits in shown))
        for i, name in enumerate(history.tasks)
    ]
    return html.table(("task", *(column[0] for column in shown)), rows)


def _options(run: Run) -> str:
    rows = {name: show(value) for name, value in run.options.items() if value not in (None, {}, [])}
    rows |= {name: show(value) for name, value in run.history.hyper.items()}
    return html.table(("option", "value"), list(rows.items()), left=(1,))


def _exports(found: Collected, pool: Pool) -> str:
    tables = export.latex({pool.stream: [pool]})
    return (
        export.button("Measures as CSV", "measures.csv", export.runs_csv(found), "text/csv")
        + export.button("Accuracy matrix as CSV", "accuracy.csv", export.matrix_csv(found.runs[0].history), "text/csv")
        + export.button("Table as LaTeX", "table.tex", tables, "text/plain")
    )
