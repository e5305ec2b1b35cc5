"""Whether a greedy order is greedy: picks judged in float64, each against all rows given the picks before it."""

from __future__ import annotations

import numpy as np

CHECKED = 48  # picks that are judged: the first twenty, the others evenly spaced


def judged(count: int) -> list[int]:
    return sorted({*range(min(20, count)), *np.linspace(0, count - 1, min(CHECKED, count)).astype(int).tolist()})


def _repeated(order: np.ndarray, N: int) -> str | None:
    if len(order) == 0 or order.min() < 0 or order.max() >= N:
        return f"expected rows in [0, {N})"
    return "a row was chosen twice" if len(np.unique(order)) != len(order) else None


def herding(order: np.ndarray, features: np.ndarray, tolerance: float) -> str | None:
    """None when every judged pick brings the mean of the chosen rows as near to the mean of all as any row could."""
    wrong = _repeated(order, len(features))
    if wrong:
        return wrong
    features = np.asarray(features, np.float64)
    mean, squares = features.mean(0), np.einsum("nd,nd->n", features, features)
    scale = np.sqrt(squares.mean())
    sums = np.cumsum(features[order], 0)
    for k in judged(len(order)):
        before = sums[k - 1] if k else np.zeros_like(mean)
        rest = before - (k + 1) * mean
        distance = np.sqrt(np.maximum(squares + 2 * features @ rest + rest @ rest, 0)) / (k + 1)
        distance[order[:k]] = np.inf
        if distance[order[k]] > distance.min() + tolerance * scale / (k + 1):
            return f"pick {k} is not the one nearest to the mean"
    return None


def k_center(order: np.ndarray, features: np.ndarray, tolerance: float) -> str | None:
    """None when the first pick is nearest to the mean and every other one is farthest from those before it."""
    wrong = _repeated(order, len(features))
    if wrong:
        return wrong
    features = np.asarray(features, np.float64)
    from_mean = np.linalg.norm(features - features.mean(0), axis=1)
    scale = from_mean.mean()
    if from_mean[order[0]] > from_mean.min() + tolerance * scale:
        return "the first pick is not the row nearest to the mean"
    squares, nearest = np.einsum("nd,nd->n", features, features), np.full(len(features), np.inf)
    for k, pick in enumerate(order):
        if k and np.sqrt(nearest[pick]) < np.sqrt(nearest.max()) - tolerance * scale:
            return f"pick {k} is not the farthest"
        distance = squares + squares[pick] - 2 * features @ features[pick]
        nearest = np.minimum(nearest, np.maximum(distance, 0))
    return None
