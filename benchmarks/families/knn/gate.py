"""Correctness before speed: a contestant's answer against float64, within the rounding its arithmetic allows.

Each check returns None when the answer holds and one sentence when it does not.
"""

from __future__ import annotations

import numpy as np

from benchmarks.families.knn.cases import Case
from benchmarks.families.knn.data import pair_values

FLOAT32_TOLERANCE = 1e-5  # expanded-form float32 distances: rounding of ‖q‖² + ‖x‖² − 2⟨q,x⟩
TF32_TOLERANCE = 2e-3  # products of operands rounded to 10 mantissa bits


def keep(case: Case, answer: dict, truth: dict) -> dict:
    """What of an answer the gate looks at: search answers of the sampled queries, steps whole."""
    if case.op == "lloyd_step":
        return answer
    return {name: array[truth["sample"]] for name, array in answer.items()}


def check(case: Case, answer: dict, truth: dict, arrays: dict, tolerance: float) -> str | None:
    """`answer` as `keep` leaves it; `tolerance` is relative to ‖q‖² + max ‖x‖²."""
    if case.op == "lloyd_step":
        return check_lloyd(answer, truth, arrays["rows"], tolerance)
    return check_search(case, answer, truth, arrays, tolerance)


def check_search(case: Case, answer: dict, truth: dict, arrays: dict, tolerance: float) -> str | None:
    """Distances equal the true ones, no missed row is nearer, ids are equal wherever the true gap is real."""
    k = case.k or 1
    ids, reported = np.asarray(answer["ids"]), np.asarray(answer["distances"], np.float64)
    expected = (len(truth["sample"]), k)
    if ids.shape != expected or reported.shape != expected:
        return f"expected ids and distances of shape {expected}, got {ids.shape} and {reported.shape}"
    if ids.min() < 0 or ids.max() >= case.others:
        return f"ids outside 0 … {case.others - 1}"
    if any(len(np.unique(row)) < k for row in ids):
        return "an id is returned twice for one query"
    allowed = tolerance * truth["scale"][:, None]
    true_values, sign = truth["values"][:, :k], 1.0 if case.metric == "l2" else -1.0
    worst = np.abs(sign * reported - true_values) / allowed
    if not worst.max() <= 1:
        return f"a distance is {worst.max():.3g} times its tolerance away from float64"
    own_values = np.sort(pair_values(arrays["rows"][truth["sample"]], arrays["others"][ids], case.metric), axis=1)
    if (own_values - true_values > allowed).any():
        return "a nearer row was missed"
    padded = np.pad(truth["values"], ((0, 0), (1, 0)), constant_values=-np.inf)
    if padded.shape[1] == k + 1:  # k = M: no row is left behind the last
        padded = np.pad(padded, ((0, 0), (0, 1)), constant_values=np.inf)
    gaps = np.minimum(np.diff(padded)[:, :k], np.diff(padded)[:, 1 : k + 1])
    wrong = (ids != truth["ids"][:, :k]) & (gaps > 2 * allowed)
    return f"{int(wrong.sum())} ids differ where the distances do not" if wrong.any() else None


def check_lloyd(answer: dict, truth: dict, rows: np.ndarray, tolerance: float) -> str | None:
    """Labels or new centres of one step. Only rows as near to a second centre may move, each touching two centres."""
    doubtful = int((truth["gaps"] <= 4 * tolerance * truth["scale"]).sum())
    if "labels" in answer:
        wrong = (np.asarray(answer["labels"]) != truth["labels"]) & (truth["gaps"] > tolerance * truth["scale"])
        if wrong.any():
            return f"{int(wrong.sum())} labels differ where the distances do not"
        if not np.array_equal(np.bincount(answer["labels"], minlength=len(truth["counts"])), answer["counts"]):
            return "counts do not agree with the labels"
        if abs(answer["inertia"] - truth["inertia"]) > 1e-5 * truth["inertia"]:
            return f"inertia {answer['inertia']:.9g} instead of {truth['inertia']:.9g}"
        centers = answer["sums"] / np.maximum(answer["counts"], 1)[:, None]
    else:
        centers = np.asarray(answer["centers"], np.float64)
    if centers.shape != truth["sums"].shape:
        return f"expected centres of shape {truth['sums'].shape}, got {centers.shape}"
    true_centers = truth["sums"] / np.maximum(truth["counts"], 1)[:, None]
    spread = float(np.abs(rows).max())
    moved = int((np.abs(centers - true_centers).max(1) > 1e-5 * spread).sum())
    if moved > 2 * doubtful:
        return f"{moved} centres differ from float64, at most {2 * doubtful} may"
    return None
