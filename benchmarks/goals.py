"""What a goal is, and the verdict on it. The goals themselves lie with their families."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.records import case_key


@dataclass(frozen=True)
class Goal:
    """`ratio` times faster than the fastest contestant among `rivals` (roles or names), where `applies` to a case, in
    each of `modes`."""

    text: str
    ratio: float
    rivals: tuple[str, ...]
    applies: Callable[[dict], bool]
    ours: str = "ours"
    modes: tuple[str, ...] = ("one-shot",)


@dataclass(frozen=True)
class Verdict:
    """How a goal fared: `values` are the figures of the shapes it applies to, `hits` those that reach `bound`."""

    text: str
    mode: str
    bound: float
    values: tuple[float, ...]
    hits: int
    worst: float
    median: float
    best: float

    @property
    def word(self) -> str:
        """hit only when every measured shape reaches the goal."""
        shapes = len(self.values)
        return "hit" if self.hits == shapes else f"miss ({self.hits} of {shapes} shapes reach it)"


def by_case(rows: list[dict]) -> list[list[dict]]:
    """Rows grouped by case, in the order of the file."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(case_key(row), []).append(row)
    return list(groups.values())


def fastest(group: list[dict], names: tuple[str, ...], mode: str | None = None) -> dict | None:
    """The fastest row whose role or name is among `names`; rows that failed the gate have no speed and do not count."""
    timed = [row for row in group if row["median_s"] and (row["role"] in names or row["contestant"] in names)]
    return min((row for row in timed if mode in (None, row["mode"])), key=lambda row: row["median_s"], default=None)


def speed_verdicts(goals: tuple[Goal, ...], rows: list[dict]) -> list[Verdict]:
    """A verdict per goal and mode that was measured at all."""
    groups = by_case(rows)
    verdicts = []
    for goal in goals:
        for mode in goal.modes:
            pairs = [
                (fastest(group, (goal.ours,), mode), fastest(group, goal.rivals))
                for group in groups
                if goal.applies(group[0])
            ]
            ratios = [rival["median_s"] / ours["median_s"] for ours, rival in pairs if ours and rival]
            if ratios:
                verdicts.append(verdict(goal.text, mode, goal.ratio, ratios))
    return verdicts


def verdict(text: str, mode: str, bound: float, values: list[float], *, smaller_is_better: bool = False) -> Verdict:
    """Ratios that should reach `bound`, or shares that should not exceed it."""
    worst, best = (max, min) if smaller_is_better else (min, max)
    hits = sum(value <= bound if smaller_is_better else value >= bound for value in values)
    return Verdict(text, mode, bound, tuple(values), hits, worst(values), statistics.median(values), best(values))
