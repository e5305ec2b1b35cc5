"""The goals of the quadratic family."""

from __future__ import annotations

from benchmarks.families.quadratic import contestants as who
from benchmarks.goals import Goal, Verdict, by_case, fastest, speed_verdicts, verdict

RIVAL = (who.AVALANCHE,)
GOALS = (
    Goal("T = 10: ≥ 10 × Avalanche's separate mode", 10.0, RIVAL, lambda row: row["T"] == 10, modes=("amortised",)),
    Goal(
        "not slower than the same folded quadratic in plain torch",
        1.0,
        (who.PLAIN_FOLDED,),
        lambda row: True,
        modes=("amortised",),
    ),
)
PER_TASK = "every T: ≥ 3·T × Avalanche's separate mode (the figure is divided by T)"
MEMORY = "extra memory ≤ gradients + 1 float per parameter, as a share of that"


def evaluate(rows: list[dict]) -> list[Verdict]:
    """A verdict per goal that was measured at all, then the goals for growth with T and for memory."""
    groups = by_case(rows)
    return speed_verdicts(GOALS, rows) + _per_task(groups) + _memory(groups)


def _per_task(groups: list[list[dict]]) -> list[Verdict]:
    pairs = [(fastest(group, (who.OURS,)), fastest(group, RIVAL)) for group in groups]
    values = [rival["median_s"] / ours["median_s"] / ours["T"] for ours, rival in pairs if ours and rival]
    return [verdict(PER_TASK, "amortised", 3.0, values)] if values else []


def _memory(groups: list[list[dict]]) -> list[Verdict]:
    """1 is the bound, smaller is better; a mebibyte more is allowed for what is no array."""
    shares = []
    for group in groups:
        ours = fastest(group, (who.OURS,))
        if ours is not None and ours["extra_mib"] is not None:
            shares.append(ours["extra_mib"] / (8 * group[0]["P"] / 2**20 + 1))
    return [verdict(MEMORY, "amortised", 1.0, shares, smaller_is_better=True)] if shares else []
