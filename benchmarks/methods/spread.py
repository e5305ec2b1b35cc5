"""Mean ± standard deviation over seeds, and tables of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.methods.results import Column, Experiment, Row, Table


@dataclass(frozen=True)
class Spread:
    """mean and sample standard deviation (N − 1; NaN for one value) of ``count`` values."""

    mean: float
    sd: float
    count: int


def spread(values: Iterable[float]) -> Spread:
    """The spread of at least one value."""
    values = list(values)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan, len(values))


def by_method(rows: Iterable[Row], stream: str, measure: str) -> dict[str, Spread]:
    """Spread over seeds of one measure on one stream, by method, in the order of the rows."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.stream == stream and row.measure == measure:
            values.setdefault(row.method, []).append(row.value)
    return {method: spread(numbers) for method, numbers in values.items()}


def seed_table(experiment: Experiment, rows: Sequence[Row], stream: str, table: Table) -> str:
    """Markdown: a line per method that has any of the table's measures on ``stream``; "" where none has."""
    cells = [by_method(rows, stream, column.measure) for column in table.columns]
    lines = []
    for method in experiment.methods:
        found = [column.get(method) for column in cells]
        if any(found):
            seeds = max(one.count for one in found if one)
            shown = [show(one, column) for one, column in zip(found, table.columns, strict=True)]
            lines.append((method, *shown, str(seeds)))
    if not lines:
        return ""
    return markdown(("method", *(heading(column) for column in table.columns), "seeds"), lines)


def heading(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def show(one: Spread | None, column: Column) -> str:
    """ "mean ± sd", or the mean alone for one seed, or "–" where nothing was measured."""
    if one is None:
        return "–"
    factor = 100 if column.unit == "%" else 1
    numbers = [one.mean] if one.count == 1 else [one.mean, one.sd]
    return " ± ".join(
        f"{factor * x:.3g}" if column.digits is None else f"{factor * x:.{column.digits}f}" for x in numbers
    )


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
