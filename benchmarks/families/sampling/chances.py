"""Whether drawn rows have the chances they should have: chi-square tests with a level nobody fails by luck."""

from __future__ import annotations

import numpy as np
from scipy import stats

LEVEL = 1e-9
PLACES, LEVELS = 64, 16


def unlikely(counts: np.ndarray, shares: np.ndarray) -> bool:
    """Whether counts are further from their shares than chance allows. Draws that are more even than independent ones
    (stratified, without replacement) pass."""
    expected = shares * counts.sum()
    seen = expected > 0
    if counts[~seen].any():
        return True
    statistic = float((np.square(counts[seen] - expected[seen]) / expected[seen]).sum())
    return statistic > stats.chi2.isf(LEVEL, max(1, int(seen.sum()) - 1))


def of_weights(drawn: np.ndarray, weights: np.ndarray) -> str | None:
    """None when rows were drawn in proportion to their weights: by stretches of rows, and by size of weight."""
    if drawn.min() < 0 or drawn.max() >= len(weights):
        return f"a row outside [0, {len(weights)}) was drawn"
    if (weights[drawn] == 0).any():
        return "a row of weight 0 was drawn"
    by_size = np.searchsorted(np.quantile(weights, np.linspace(0, 1, LEVELS + 1)[1:-1]), weights)
    by_place = np.arange(len(weights)) * PLACES // len(weights)
    for name, bins, count in (("stretch", by_place, PLACES), ("size of weight", by_size, LEVELS)):
        shares = np.bincount(bins, weights, count) / weights.sum()
        if unlikely(np.bincount(bins[drawn], minlength=count), shares):
            return f"draws by {name} do not follow the weights"
    return None


def uniform(positions: np.ndarray, offered: int, bins: int = 20) -> str | None:
    """None when kept rows are a uniform sample of everything offered."""
    counts = np.bincount(positions * bins // offered, minlength=bins)
    sizes = np.bincount(np.arange(offered) * bins // offered, minlength=bins)
    return "early and late rows do not have the same chance" if unlikely(counts, sizes / offered) else None
