"""Drawing rows: places in the order of a memory, from a generator."""

from __future__ import annotations

import numpy as np
import torch

from pyfast_mmcl._errors import InputError

# Up to here a random order of all places is cheaper than finding repeated ones.
_SHUFFLED = 4096


def distinct(length: int, n: int, generator: torch.Generator | None) -> np.ndarray:
    """min(n, length) different places in [0, length), every ordered choice equally likely; O(n) for large memories."""
    if length <= _SHUFFLED or 4 * n >= length:
        return torch.randperm(length, generator=generator)[:n].numpy()
    places = np.zeros(0, dtype=np.int64)
    while len(places) < n:
        more = torch.randint(length, (n + n // 4 + 16,), generator=generator).numpy()
        places = np.concatenate([places, more])
        _, first = np.unique(places, return_index=True)
        places = places[np.sort(first)]
    return places[:n]


def proportional(priority: np.ndarray, n: int, generator: torch.Generator | None) -> np.ndarray:
    """n places drawn with replacement in proportion to ``priority``, one from each n-th of its sum."""
    sums = np.cumsum(priority, dtype=np.float64)
    if not sums[-1] > 0:
        raise InputError("memory: no row has a priority above 0 to draw by; give at least one row a positive priority.")
    u = (np.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64).numpy()) / n
    last = int(np.flatnonzero(priority)[-1])
    return np.minimum(np.searchsorted(sums, u * sums[-1], side="right"), last)


def importance(priority: np.ndarray, places: np.ndarray, beta: float) -> np.ndarray:
    """Weights ``(N · P)^−beta`` over the largest of them, float32 [n]: (smallest positive priority / p)^beta."""
    return ((priority[priority > 0].min() / priority[places]) ** beta).astype(np.float32)
