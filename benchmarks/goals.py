"""The goals the figures are held against, and the verdict on each."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import contestants as who
from benchmarks.records import case_key

SLACK_MIB = 64.0
FAISS_BEST = (who.FAISS_INSTALLED, who.FAISS_ENV)  # what a user reaches with environment variables
FAISS_ANYHOW = (*FAISS_BEST, who.FAISS_CODE)


@dataclass(frozen=True)
class Goal:
    """`ratio` times faster than the fastest contestant among `rivals` (roles or names), where `applies` to a case."""

    text: str
    ratio: float
    rivals: tuple[str, ...]
    applies: Callable[[dict], bool]
    ours: str = who.OURS
    modes: tuple[str, ...] = ("amortised", "one-shot")


def _knn(low: int, high: float, least_D: int = 0) -> Callable[[dict], bool]:
    return lambda row: row["op"] == "knn" and low <= row["N"] <= high and row["D"] >= least_D


def _lloyd(row: dict) -> bool:
    return row["op"] == "lloyd_step"


GOALS = (
    Goal("N ≥ 1,000, D ≥ 512: ≥ 1.8× faiss best-tuned", 1.8, FAISS_BEST, _knn(1_000, float("inf"), 512)),
    Goal("N ≥ 1,000, D ≥ 512: ≥ 8× faiss as installed", 8.0, (who.FAISS_INSTALLED,), _knn(1_000, float("inf"), 512)),
    Goal("8 ≤ N ≤ 160: ≥ 8× faiss best-tuned by environment", 8.0, FAISS_BEST, _knn(8, 160)),
    Goal("8 ≤ N ≤ 160: ≥ 8× faiss with BLAS forced in code too", 8.0, FAISS_ANYHOW, _knn(8, 160)),
    Goal("N = 1: ≥ 1.5× faiss best-tuned, packed bank", 1.5, FAISS_ANYHOW, _knn(1, 1), modes=("amortised",)),
    Goal("lloyd_step: ≥ 2× faiss.Kmeans per iteration", 2.0, FAISS_BEST, _lloyd, modes=("one-shot",)),
    Goal("lloyd_step: ≥ 5× scikit-learn per iteration", 5.0, ("scikit-learn",), _lloyd, modes=("one-shot",)),
    Goal("AVX2 path: ≥ 1× faiss on AVX2", 1.0, (who.FAISS_AVX2,), lambda row: row["op"] == "knn", ours=who.OURS_AVX2),
)


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


def evaluate(rows: list[dict]) -> list[Verdict]:
    """A verdict per goal and mode that was measured at all, then the memory goal."""
    groups = by_case(rows)
    verdicts = []
    for goal in GOALS:
        for mode in goal.modes:
            pairs = [
                (fastest(group, (goal.ours,), mode), fastest(group, goal.rivals))
                for group in groups
                if goal.applies(group[0])
            ]
            ratios = [rival["median_s"] / ours["median_s"] for ours, rival in pairs if ours and rival]
            if ratios:
                verdicts.append(_verdict(goal.text, mode, goal.ratio, ratios, sum(r >= goal.ratio for r in ratios)))
    return verdicts + _memory(groups)


def memory_allowance(group: list[dict], mode: str) -> float | None:
    """MiB a knn call may add: the packed bank and 64 MiB; a search through a bank that exists already, 64 MiB."""
    if mode == "amortised":
        return SLACK_MIB
    bank = fastest(group, (who.OURS,), "amortised")
    return None if bank is None or bank["held_mib"] is None else bank["held_mib"] + SLACK_MIB


def _memory(groups: list[list[dict]]) -> list[Verdict]:
    """Extra memory as a share of what is allowed: 1 is the bound, smaller is better."""
    verdicts = []
    for mode in ("amortised", "one-shot"):
        shares = []
        for group in groups:
            ours = fastest(group, (who.OURS,), mode)
            if group[0]["op"] != "knn" or ours is None or ours["extra_mib"] is None:
                continue
            allowed = memory_allowance(group, mode)
            if allowed:
                shares.append(ours["extra_mib"] / allowed)
        if shares:
            text = "extra memory ≤ packed bank + 64 MiB, as a share of it"
            verdict = _verdict(text, mode, 1.0, shares, sum(share <= 1 for share in shares))
            verdicts.append(verdict)
    return verdicts


def _verdict(text: str, mode: str, bound: float, values: list[float], hits: int) -> Verdict:
    smaller_is_better = text.startswith("extra memory")
    worst, best = (max, min) if smaller_is_better else (min, max)
    return Verdict(text, mode, bound, tuple(values), hits, worst(values), statistics.median(values), best(values))
