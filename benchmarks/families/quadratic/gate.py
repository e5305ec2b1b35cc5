"""The right value and gradient before speed."""

from __future__ import annotations

import numpy as np

from benchmarks.families.quadratic.cases import Case

FLOAT32_TOLERANCE = 1e-5  # of the value, of a gradient's norm, of the largest sampled element of a gradient
DOT_TOLERANCE = 1e-2  # of torch.dot, which adds up tens of millions of float32 numbers in float32


def keep(case: Case, answer: dict, truth: dict) -> dict:
    return answer


def check(case: Case, answer: dict, truth: dict, arrays: dict, tolerance: float) -> str | None:
    """None when value, gradients and their norms agree with float64; else one sentence."""
    for name in ("value", "gradient", "norm"):
        if name not in answer:
            return f"{name} is missing"
        ours, right = np.asarray(answer[name], np.float64), np.asarray(truth[name], np.float64)
        if ours.shape != right.shape:
            return f"{name}: expected shape {right.shape}, got {ours.shape}"
        scale = np.abs(right).max(1, keepdims=True) if right.ndim == 2 else np.abs(right)
        error = float((np.abs(ours - right) / np.maximum(scale, np.finfo(np.float64).tiny)).max())
        if not error <= tolerance:
            return f"{name} is {error / tolerance:.3g} times its tolerance away from float64"
    return None
