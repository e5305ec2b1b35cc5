"""The goals of the kNN family."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.families.knn import contestants as who
from benchmarks.goals import Goal, Verdict, by_case, fastest, speed_verdicts, verdict

SLACK_MIB = 64.0
FAISS_BEST = (who.FAISS_INSTALLED, who.FAISS_ENV)  # what a user reaches with environment variables
FAISS_ANYHOW = (*FAISS_BEST, who.FAISS_CODE)
BOTH = ("amortised", "one-shot")


def _knn(low: int, high: float, least_D: int = 0) -> Callable[[dict], bool]:
    return lambda row: row["op"] == "knn" and low <= row["N"] <= high and row["D"] >= least_D


def _lloyd(row: dict) -> bool:
    return row["op"] == "lloyd_step"


GOALS = (
    Goal("N ≥ 1,000, D ≥ 512: ≥ 1.8× faiss best-tuned", 1.8, FAISS_BEST, _knn(1_000, float("inf"), 512), modes=BOTH),
    Goal(
        "N ≥ 1,000, D ≥ 512: ≥ 8× faiss as installed",
        8.0,
        (who.FAISS_INSTALLED,),
        _knn(1_000, float("inf"), 512),
        modes=BOTH,
    ),
    Goal("8 ≤ N ≤ 160: ≥ 8× faiss best-tuned by environment", 8.0, FAISS_BEST, _knn(8, 160), modes=BOTH),
    Goal("8 ≤ N ≤ 160: ≥ 8× faiss with BLAS forced in code too", 8.0, FAISS_ANYHOW, _knn(8, 160), modes=BOTH),
    Goal("N = 1: ≥ 1.5× faiss best-tuned, packed bank", 1.5, FAISS_ANYHOW, _knn(1, 1), modes=("amortised",)),
    Goal("lloyd_step: ≥ 2× faiss.Kmeans per iteration", 2.0, FAISS_BEST, _lloyd),
    Goal("lloyd_step: ≥ 5× scikit-learn per iteration", 5.0, ("scikit-learn",), _lloyd),
    Goal(
        "AVX2 path: ≥ 1× faiss on AVX2",
        1.0,
        (who.FAISS_AVX2,),
        lambda row: row["op"] == "knn",
        ours=who.OURS_AVX2,
        modes=BOTH,
    ),
)


def evaluate(rows: list[dict]) -> list[Verdict]:
    """A verdict per goal and mode that was measured at all, then the memory goal."""
    return speed_verdicts(GOALS, rows) + _memory(by_case(rows))


def memory_allowance(group: list[dict], mode: str) -> float | None:
    """MiB a knn call may add: the packed bank and 64 MiB; a search through a bank that exists already, 64 MiB."""
    if mode == "amortised":
        return SLACK_MIB
    bank = fastest(group, (who.OURS,), "amortised")
    return None if bank is None or bank["held_mib"] is None else bank["held_mib"] + SLACK_MIB


def _memory(groups: list[list[dict]]) -> list[Verdict]:
    """Extra memory as a share of what is allowed: 1 is the bound, smaller is better."""
    verdicts = []
    for mode in BOTH:
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
            verdicts.append(verdict(text, mode, 1.0, shares, smaller_is_better=True))
    return verdicts
