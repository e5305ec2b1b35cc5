"""Which measures and costs the pages, the exports and the files of a run show, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..metrics.seeds import Spread
from ..train import History


@dataclass(frozen=True)
class Measure:
    """A measure of the accuracy matrix: its name in metrics.continual, its heading, whether more is better."""

    name: str
    title: str
    more_is_better: bool = True


@dataclass(frozen=True)
class Cost:
    """An amount that a run took: its name in exports, its heading with the unit, and where it is found.

    drawn: against accuracy, in a chart. The memory of a process on the CPU is mostly that of Python and its libraries.
    """

    name: str
    title: str
    amount: Callable[[History], float | None]
    digits: int = 1
    drawn: bool = True


MEASURES = (
    Measure("last_accuracy", "Last"),
    Measure("average_incremental_accuracy", "AvgInc"),
    Measure("forgetting", "Forgetting", False),
    Measure("backward_transfer", "BWT"),
    Measure("forward_transfer", "FWT"),
    Measure("zero_shot_transfer", "Transfer"),
    Measure("overall_average", "Average"),
)


def _largest(values: list[int] | None, unit: int) -> float | None:
    return max(values) / unit if values else None


def _trainable(history: History) -> float | None:
    return _largest(history.trainable_parameters, 1000)


COSTS = (
    Cost("seconds", "training time (s)", lambda history: sum(history.seconds)),
    Cost("peak_memory_mib", "peak memory (MiB)", lambda history: _largest(history.peak_memory, 2**20), 0, drawn=False),
    Cost("kept_mib", "kept between tasks (MiB)", lambda history: _largest(history.kept_bytes, 2**20), 2),
    Cost("trainable_thousands", "trainable parameters (thousand)", _trainable),
)


def number(value: float, digits: int = 1) -> str:
    """A number with a true minus sign, a dash where it is undefined."""
    if not math.isfinite(value):
        return "–"
    words = f"{value:,.{digits}f}"
    return ("−" + words[1:] if float(words.replace(",", "")) else words[1:]) if words[0] == "-" else words


def mean_sd(spread: Spread | None, factor: float = 100, digits: int = 1) -> str:
    """ "80.5 ± 1.2", the mean alone for one seed, a dash where nothing was measured."""
    if spread is None or not math.isfinite(spread.mean):
        return "–"
    mean = number(factor * spread.mean, digits)
    return mean if spread.count == 1 else f"{mean} ± {number(factor * spread.sd, digits)}"


def interval(spread: Spread | None, factor: float = 100, digits: int = 1) -> str:
    """ "[79.0, 82.0]"; empty for one seed."""
    if spread is None or not math.isfinite(spread.low):
        return ""
    return f"[{number(factor * spread.low, digits)}, {number(factor * spread.high, digits)}]"
