"""The right choice before speed: chances for what is drawn, float64 for what is greedy, identity for what is copied."""

from __future__ import annotations

import numpy as np

from benchmarks.families.sampling import chances, greedy
from benchmarks.families.sampling.cases import TREE, Case
from benchmarks.families.sampling.data import COLUMNS, priorities_after

BETA = 0.4  # exponent of the importance weights, as prioritized replay begins with
DRAWN = 100_000  # draws a gate sees
EXACT_TOLERANCE = 1e-6  # of distances accumulated in float64, and of importance weights in float64
FLOAT32_TOLERANCE = 1e-3


def keep(case: Case, answer: dict, truth: dict) -> dict:
    return answer


def check(case: Case, answer: dict, truth: dict, arrays: dict, tolerance: float) -> str | None:
    """None when the choice is right, else one sentence."""
    if case.op == "reservoir":
        return _reservoir(case, answer, truth)
    if case.op in TREE:
        return _tree(case, answer, arrays, max(tolerance, 1e-5))
    if case.op == "memory_sample":
        return _rows(case, answer, arrays)
    if case.op in ("herding", "k_center"):
        return getattr(greedy, case.op)(answer["order"], arrays["features"], tolerance)
    return _draws(case, answer, arrays)


def _reservoir(case: Case, answer: dict, truth: dict) -> str | None:
    """`ids` and `rows` kept of the first `offered`; `keyed` ones have to be those of the largest keys."""
    ids, offered = answer["ids"], int(answer["offered"])
    if len(np.unique(ids)) != len(ids) or len(ids) != min(case.M, offered):
        return f"expected {min(case.M, offered)} distinct rows, got {len(np.unique(ids))} of {len(ids)}"
    if not np.array_equal(answer["rows"], ids.astype(np.float32)):
        return "the rows kept are not those of their ids"
    if not answer["keyed"]:
        return chances.uniform(ids, offered)
    return None if np.array_equal(np.sort(ids), truth["kept"]) else "the rows kept are not those of the largest keys"


def _tree(case: Case, answer: dict, arrays: dict, tolerance: float) -> str | None:
    priority, drawn = priorities_after(case, arrays), answer["index"].astype(np.int64)
    wrong = chances.of_weights(drawn, priority)
    if wrong:
        return wrong
    right = (priority.min() / priority[drawn]) ** BETA
    error = float(np.abs(answer["weight"] / right - 1).max())
    return None if error <= tolerance else f"an importance weight is off by {error:.2g}"


def _rows(case: Case, answer: dict, arrays: dict) -> str | None:
    index = answer["index"]
    if len(index) != case.B or len(np.unique(index)) < 0.9 * case.B:
        return f"expected {case.B} rows, got {len(np.unique(index))} different ones of {len(index)}"
    for name in COLUMNS:
        if not np.array_equal(answer[name], np.asarray(arrays[name])[index]):
            return f"{name}: the rows drawn are not those of their ids"
    return None


def _draws(case: Case, answer: dict, arrays: dict) -> str | None:
    """A call's own draws, distinct where rows are not put back; `first` are many first draws, there from 16 weights."""
    drawn, distinct = answer["index"], len(np.unique(answer["index"]))
    if len(drawn) != case.B or (case.op == "gumbel_top_k" and distinct != case.B):
        return f"expected {case.B} distinct rows, got {distinct} of {len(drawn)}"
    if case.op == "alias_sample":
        return chances.of_weights(answer["first"], np.asarray(arrays["weights"], np.float64))
    return chances.of_weights(answer["first"], np.asarray(arrays["weights"][:16], np.float64))
