"""k-means++: centres drawn one by one, and in parts where all rows are too many to look at for every centre.

All draws come from one generator that the caller owns, and all sums that a draw depends on are taken in one fixed
order in float64: the same seed gives the same rows whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.distances import nearest_cost
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.nearer import Nearer

_WHOLE = 256  # centres up to which they are drawn from all rows at once
_ROWS_PER_PART = 32  # rows per part from which the parts are made


def kmeans_plus_plus(
    rows: Rows,
    K: int,
    rng: np.random.Generator,
    *,
    weights: np.ndarray | None = None,  # [N]
    backend: str = "auto",
) -> Tensor:
    """Draw centres one by one with probability ∝ weight · squared distance to the nearest centre so far.

    Greedy form: of 2 + ⌊ln K⌋ drawn rows the one that lowers the inertia most is kept.

    Reference: Arthur and Vassilvitskii, *k-means++*, SODA 2007, with the greedy choice of section 6.
    """
    weights = np.ones(len(rows)) if weights is None else weights
    trials = 2 + int(np.log(K))
    nearer = Nearer(rows, backend=backend)
    cost = np.full(len(rows), np.inf)
    candidates = draw(rng, weights, 1)
    chosen: list[int] = []
    while True:
        found = nearer.find(rows.take(candidates), cost)
        # With an infinite cost there is one candidate only, and nothing to compare.
        gains = [((cost[index] - new) * weights[index]).sum() for index, new in found] if chosen else [0.0]
        best = int(np.argmax(gains))
        index, new = found[best]
        cost[index] = new
        chosen.append(int(candidates[best]))
        mass = cost * weights
        if len(chosen) == K:
            return rows.take(np.array(chosen))
        if not mass.any():
            # Every row lies on a centre already (duplicates): any other row is as good.
            return rows.take(np.concatenate([chosen, other_rows(rng, weights, chosen, K - len(chosen))]))
        candidates = draw(rng, mass, trials)


def plus_plus_in_parts(
    rows: Rows,
    K: int,
    rng: np.random.Generator,
    *,
    weights: np.ndarray | None = None,  # [N]
    backend: str = "auto",
) -> Tensor:
    """k-means++ in which a centre attracts rows of its own part only: about N·√K distances instead of N·K.

    The parts are the rows nearest to each of √K centres that k-means++ draws from a sample. From then on a part is
    drawn with probability ∝ its inertia, and a row within it as in k-means++. Up to K = 256 this is k-means++ itself.
    """
    weights = np.ones(len(rows)) if weights is None else weights
    able = np.flatnonzero(weights > 0)
    if K <= _WHOLE or len(able) <= K:
        return kmeans_plus_plus(rows, K, rng, weights=weights, backend=backend)
    heads = int(np.ceil(np.sqrt(K)))
    some = np.sort(rng.choice(able, size=min(len(able), _ROWS_PER_PART * heads), replace=False))
    centers = kmeans_plus_plus(
        Rows(rows.take(some), rows.center_dtype), heads, rng, weights=weights[some], backend=backend
    )
    cost, owner = nearest_cost(rows, centers, metric="l2", backend=backend)
    order = able[np.argsort(owner[able], kind="stable")]
    members = np.split(order, np.cumsum(np.bincount(owner[able], minlength=heads))[:-1])
    parts = [_Part(rows, index, cost[index], weights[index], backend) for index in members if len(index)]
    mass = np.array([part.mass for part in parts])
    trials = 2 + int(np.log(K))
    chosen: list[int] = []
    while len(chosen) < K - heads and mass.any():
        place = int(draw(rng, mass, 1)[0])
        chosen.append(parts[place].choose(rng, trials))
        mass[place] = parts[place].mass
    left = K - heads - len(chosen)
    picked = np.concatenate([chosen, other_rows(rng, weights, chosen, left)]) if left else np.array(chosen)
    return torch.cat([centers, rows.take(picked)])


class _Part:
    """Some rows, drawn from as in k-means++ while those of other parts are left alone."""

    def __init__(self, rows: Rows, index: np.ndarray, cost: np.ndarray, weights: np.ndarray, backend: str) -> None:
        self._index, self._cost, self._weights = index, cost, weights
        self._rows = Rows(rows.take(index), rows.center_dtype)
        self._nearer = Nearer(self._rows, backend=backend)

    @property
    def mass(self) -> float:
        return float((self._cost * self._weights).sum())

    def choose(self, rng: np.random.Generator, trials: int) -> int:
        """The number of the drawn row that lowers the inertia most; its cost and that of its neighbours fall."""
        candidates = draw(rng, self._cost * self._weights, trials)
        found = self._nearer.find(self._rows.take(candidates), self._cost)
        gains = [((self._cost[index] - new) * self._weights[index]).sum() for index, new in found]
        best = int(np.argmax(gains))
        index, new = found[best]
        self._cost[index] = new
        self._cost[candidates[best]] = 0.0
        return int(self._index[candidates[best]])


def draw(rng: np.random.Generator, mass: np.ndarray, count: int) -> np.ndarray:
    """``count`` independent rows with probability ∝ ``mass`` [N] ≥ 0, never one of mass 0."""
    # Dividing by the largest first keeps the running sum finite; float64 keeps the smallest shares in it.
    running = np.cumsum(mass / mass.max())
    index = np.searchsorted(running, rng.random(count) * running[-1], side="right")
    return np.minimum(index, np.searchsorted(running, running[-1], side="left"))


def distinct_draw(rng: np.random.Generator, mass: np.ndarray, count: int) -> np.ndarray:
    """``count`` different rows, uniformly among those of positive mass; all others only when these run out."""
    able = np.flatnonzero(mass > 0)
    if len(able) >= count:
        return rng.choice(able, size=count, replace=False)
    return np.concatenate([able, rng.choice(able, size=count - len(able))])


def other_rows(rng: np.random.Generator, mass: np.ndarray, chosen: Any, count: int) -> np.ndarray:
    """``count`` more rows besides ``chosen``, different ones as long as there are any of positive mass."""
    left = mass.copy()
    left[np.asarray(chosen)] = 0.0
    return distinct_draw(rng, left if left.any() else (mass > 0).astype(float), count)
