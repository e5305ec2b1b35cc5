"""Numbers set by held-out rows: the temperature of a head, the limit of a score."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A head that is right about every row would have its temperature fall to 0, one that is never right rise for ever.
BOUNDS = (0.1, 10.0)
# Halving alone reaches the last digit of the logarithm in this many steps; Newton's method needs about six.
_STEPS = 60


@torch.no_grad()
def fit_temperature(scores: Tensor, target: Tensor, *, bounds: tuple[float, float] = BOUNDS) -> float:
    """argmin_T cross_entropy(scores / T, target) within ``bounds``; scores [N, C], target [N].

    As a function of β = 1/T the loss is convex, with derivatives
    ``f' = (p @ z - z[y]).mean();  f'' = (p @ z² - (p @ z)²).mean(),  p = softmax(β z)``
    so Newton's method, halving an interval wherever it would leave it, finds the only minimum; float64, no rows give 1.

    Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, who use L-BFGS.
    """
    if len(target) == 0:
        return 1.0
    z = scores.to(torch.float64)
    z = z - z.amax(1, keepdim=True)
    # Classes a task-incremental head leaves out have probability 0 at every temperature.
    z = z.masked_fill(z < -1e30, float("-inf"))
    shown, right = z.nan_to_num(neginf=0.0), z.gather(1, target.unsqueeze(1)).squeeze(1)
    low, high = 1 / bounds[1], 1 / bounds[0]
    beta = min(max(1.0, low), high)
    for _ in range(_STEPS):
        p = (beta * z).softmax(1)
        mean = (p * shown).sum(1)
        slope, bend = float((mean - right).mean()), float(((p * shown.square()).sum(1) - mean.square()).mean())
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / bend if bend > 0 else 0.0
        new = step if low < step < high else (low + high) / 2
        if abs(new - beta) <= 1e-12 * beta:
            break
        beta = new
    return 1 / beta


@torch.no_grad()
def conformal_limit(scores: Tensor, miss: float) -> Tensor:
    """The limit, 0-d, that a further score of the same kind exceeds with probability at most ``miss``; scores [N].

    ``scores.sort().values[ceil((N + 1) * (1 - miss)) - 1]``; the largest score where N is too small for such a promise.

    The promise needs no more than that old and further scores are exchangeable. Reference: Lei et al.,
    Distribution-Free Predictive Inference for Regression, JASA 2018, §2.2.
    """
    place = math.ceil((len(scores) + 1) * (1 - miss))
    return scores.sort().values[min(place, len(scores)) - 1]
