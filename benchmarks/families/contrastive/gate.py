"""Loss and gradients before speed: an answer against float64, within the rounding its arithmetic allows."""

from __future__ import annotations

import numpy as np

from benchmarks.families.contrastive.cases import Case

FLOAT32_TOLERANCE = 2e-5
TF32_TOLERANCE = 1e-2  # products of operands with 10 mantissa bits, multiplied by the scale before exp
BFLOAT16_TOLERANCE = 3e-2  # similarities and their gradients rounded to 8 mantissa bits
BFLOAT16_TILES_TOLERANCE = 1e-2  # operands of products rounded, similarities kept in float32


def keep(case: Case, answer: dict, truth: dict) -> dict:
    """The loss, gradients of numbers, and gradients of the sampled rows; the shape of whole gradients beside them."""
    kept = {}
    for name, value in answer.items():
        value = np.asarray(value)
        kept[name] = value[truth["sample"]] if value.ndim == 2 and len(value) == case.rows else value
        kept[f"shape_{name}"] = np.array(value.shape)
    return kept


def check(case: Case, answer: dict, truth: dict, arrays: dict, tolerance: float) -> str | None:
    """None when the loss agrees to `tolerance` of max(1, |loss|), each sampled row's gradient to `tolerance` of the
    largest sampled gradient's norm, and gradients of numbers like the loss; else one sentence. Rows given in bfloat16
    get their gradients in bfloat16, so nobody is held to less than its rounding there."""
    tolerance = max(tolerance, BFLOAT16_TOLERANCE if case.dtype == "bfloat16" else 0.0)
    for name in ("loss", *(f"grad_{name}" for name in case.differentiable)):
        if name not in answer:
            return f"{name} is missing"
        ours, right = np.asarray(answer[name], np.float64), np.asarray(truth[name], np.float64)
        full = (case.rows, case.D) if right.ndim else ()
        if tuple(answer[f"shape_{name}"]) != full:
            return f"{name}: expected shape {full}, got {tuple(int(n) for n in answer[f'shape_{name}'])}"
        if right.ndim == 0:
            error, allowed = abs(float(ours) - float(right)), tolerance * max(1.0, abs(float(right)))
        else:
            error = float(np.linalg.norm(ours - right, axis=1).max())
            allowed = tolerance * float(np.linalg.norm(right, axis=1).max())
        if not error <= allowed:
            return f"{name} is {error / allowed:.3g} times its tolerance away from float64"
    return None
