"""The goals of the sampling family."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.families.sampling import contestants as who
from benchmarks.families.sampling.cases import TREE
from benchmarks.goals import Goal, Verdict, by_case, fastest, speed_verdicts, verdict

NANOSECONDS = "priority tree, N = 1e6, B ≥ 256: ≤ 60 ns for an item sampled or updated (in ns)"


def _op(*ops: str, **sizes: int) -> Callable[[dict], bool]:
    return lambda row: row["op"] in ops and all(row[letter] == value for letter, value in sizes.items())


def _tree(row: dict) -> bool:
    return row["op"] in TREE and row["N"] == 1_000_000 and row["B"] >= 256


def _order(row: dict) -> bool:
    return row["op"] == "herding" and row["M"] == row["N"] == 5_000


GOALS = (
    Goal("reservoir, 1e6 items: ≥ 100 × a loop per item", 100.0, (who.LOOP,), _op("reservoir")),
    Goal("reservoir, 1e6 items: ≥ 10 × Avalanche's sort", 10.0, (who.SORT,), _op("reservoir")),
    Goal("priority tree, N = 1e6, B ≥ 256: ≥ 10 × cpprb", 10.0, (who.CPPRB,), _tree),
    Goal("priority tree, N = 1e6, B ≥ 256: ≥ 3 × torchrl", 3.0, (who.TORCHRL,), _tree),
    Goal("herding, N = 5,000, whole order: ≥ 50 × Avalanche", 50.0, (who.FULL_ORDER,), _order),
    Goal("herding, M = 20: ≥ 10 × PyCIL", 10.0, (who.FEW,), _op("herding", M=20)),
    Goal("memory: ≤ 2 × one index_select per modality (inverse)", 0.5, (who.PLAIN_TORCH,), _op("memory_sample")),
    Goal("k_center: not slower than plain torch", 1.0, (who.PLAIN_TORCH, who.PEER), _op("k_center")),
    Goal("gumbel_top_k: not slower than torch.multinomial", 1.0, (who.PLAIN_TORCH,), _op("gumbel_top_k")),
    Goal("alias_sample: not slower than torch.multinomial", 1.0, (who.PLAIN_TORCH,), _op("alias_sample")),
)


def evaluate(rows: list[dict]) -> list[Verdict]:
    """A verdict per goal that was measured at all, then the goal in nanoseconds."""
    return speed_verdicts(GOALS, rows) + _nanoseconds(by_case(rows))


def _nanoseconds(groups: list[list[dict]]) -> list[Verdict]:
    found = [fastest(group, (who.OURS,)) for group in groups if _tree(group[0]) and group[0]["op"] != "priority_both"]
    values = [row["median_s"] * 1e9 / row["B"] for row in found if row]
    return [verdict(NANOSECONDS, "one-shot", 60.0, values, smaller_is_better=True)] if values else []
