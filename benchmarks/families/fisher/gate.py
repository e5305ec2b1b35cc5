"""The right numbers before speed: what a contestant says it computes, against float64."""

from __future__ import annotations

import numpy as np

from benchmarks.families.fisher.cases import Case
from benchmarks.families.fisher.truth import BATCH, FISHER, GRADIENT

FLOAT32_TOLERANCE = 2e-3  # of a parameter's largest element: sums over hundreds of positions, through every layer
CANCELLATION = 10  # times that for sums of signed gradients, which largely cancel; squares do not
NEGLIGIBLE = 1e-6  # of the largest element of all parameters: below it, rounding of the whole pass decides


def keep(case: Case, answer: dict, truth: dict) -> dict:
    return answer


def check(case: Case, answer: dict, truth: dict, arrays: dict, tolerance: float) -> str | None:
    """None when every parameter's elements agree to `tolerance` of its largest one; else one sentence."""
    named = [kind for kind in (FISHER, BATCH, GRADIENT) if kind in answer]
    if len(named) != 1:
        return f"expected one of {FISHER}, {BATCH} and {GRADIENT}, got {named}"
    ours, right = (np.asarray(values[named[0]], np.float64) for values in (answer, truth))
    if ours.shape != right.shape:
        return f"expected elements {right.shape}, got {ours.shape}"
    scale = np.maximum(np.abs(right).max(1), NEGLIGIBLE * np.abs(right).max())
    error = (np.abs(ours - right).max(1) / scale).max()
    allowed = tolerance if named[0] == FISHER else CANCELLATION * tolerance
    return None if error <= allowed else f"{named[0]} is {error / allowed:.3g} times its tolerance off"
