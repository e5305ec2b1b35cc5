"""First centres: k-means++, its parallel form k-means‖, random rows, or given ones.

All draws come from one generator that the caller owns, and all sums that a draw depends on are taken in one fixed
order in float64: the same seed gives the same rows whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.clustering.distances import nearest_cost
from pyfast_mmcl.clustering.inputs import Rows, read_rows, unit_rows
from pyfast_mmcl.clustering.nearer import Nearer

INITS = ("auto", "k-means++", "k-means||", "random")
# k-means++ reads all rows K times, k-means|| six times. Measured on one core it is 3 times faster at N·K = 2e6 and 4.5
# times at 2e7 (D = 128), while on MNIST-10k the inertia after Lloyd agrees within 0.2 % over 25 seeds.
_PARALLEL_FROM = 2**20  # N·K
_OVERSAMPLING, _ROUNDS = 2.0, 5  # candidates per cluster and round, rounds: Bahmani et al. 2012, section 5


def initial_centers(
    rows: Rows, K: int, init: Any, rng: np.random.Generator, *, spherical: bool = False, backend: str = "auto"
) -> Tensor:
    """Centres [K, D] to start from, in ``rows.center_dtype``.

    Args:
        rows: [N, D], N ≥ K; unit (or zero) rows when spherical.
        init: "auto" (k-means++, or k-means|| once N·K ≥ 2²⁰), "k-means++", "k-means||", "random", or centres [K, D].
        rng: where all randomness comes from.

    Raises:
        InputError: unknown name, or given centres of the wrong shape or not finite.
    """
    if not isinstance(init, str):
        return given_centers(rows, K, init, spherical=spherical)
    if init not in INITS:
        raise unknown_name("init", init, INITS)
    weights = _directions(rows) if spherical else np.ones(len(rows))
    if init == "auto":
        init = "k-means||" if len(rows) * K >= _PARALLEL_FROM else "k-means++"
    if init == "random":
        return rows.take(_distinct_draw(rng, weights, K))
    draw = kmeans_plus_plus if init == "k-means++" else kmeans_parallel
    return draw(rows, K, rng, weights=weights, backend=backend)


def given_centers(rows: Rows, K: int, init: Any, *, spherical: bool) -> Tensor:
    """Centres that the caller brings, checked and converted to the rows' precision and device."""
    try:
        given = read_rows(init)
    except InputError as error:
        raise InputError(f"init: {error}") from error
    if given.shape != (K, rows.shape[1]):
        raise InputError(
            f"init must have the shape (n_clusters, n_features) = ({K}, {rows.shape[1]}), got {given.shape}."
        )
    centers = torch.cat([block.double() for _, block in given.blocks()])
    if spherical:
        if not bool((centers != 0).any(dim=1).all()):
            raise InputError("init holds a zero vector, which has no direction; spherical centres must be non-zero.")
        centers = unit_rows(centers)
    # A copy: the caller's array must not become an attribute of the model.
    return centers.to(device=rows.device, dtype=rows.center_dtype, copy=True)


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
    candidates = _draw(rng, weights, 1)
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
            return rows.take(np.concatenate([chosen, _rest(rng, weights, chosen, K - len(chosen))]))
        candidates = _draw(rng, mass, trials)


def kmeans_parallel(
    rows: Rows,
    K: int,
    rng: np.random.Generator,
    *,
    weights: np.ndarray | None = None,  # [N]
    backend: str = "auto",
) -> Tensor:
    """k-means‖: five rounds that each draw about 2K rows at once, then weighted k-means++ among those candidates.

    Each row is drawn independently with ``p = min(1, 2K · cost / cost.sum())``; a candidate weighs as many rows as are
    nearest to it.

    Reference: Bahmani et al., *Scalable k-means++*, VLDB 2012.
    """
    weights = np.ones(len(rows)) if weights is None else weights
    chosen = _draw(rng, weights, 1)
    cost, owner = nearest_cost(rows, rows.take(chosen), metric="l2", backend=backend)
    cost[chosen] = 0.0
    for _ in range(_ROUNDS):
        mass = cost * weights
        if not mass.any():
            break
        drawn = np.flatnonzero(rng.random(len(rows)) < _OVERSAMPLING * K * (mass / mass.sum()))
        if len(drawn) == 0:
            continue
        closer, label = nearest_cost(rows, rows.take(drawn), metric="l2", backend=backend)
        better = closer < cost
        cost, owner = np.where(better, closer, cost), np.where(better, len(chosen) + label, owner)
        cost[drawn], owner[drawn] = 0.0, len(chosen) + np.arange(len(drawn))
        chosen = np.concatenate([chosen, drawn])
    if len(chosen) < K:
        return rows.take(np.concatenate([chosen, _rest(rng, weights, chosen, K - len(chosen))]))
    votes = np.bincount(owner, weights=weights, minlength=len(chosen))
    candidates = Rows(rows.take(chosen), rows.center_dtype)
    return kmeans_plus_plus(candidates, K, rng, weights=votes, backend=backend)


def _draw(rng: np.random.Generator, mass: np.ndarray, count: int) -> np.ndarray:
    """``count`` independent rows with probability ∝ ``mass`` [N] ≥ 0, never one of mass 0."""
    # Dividing by the largest first keeps the running sum finite; float64 keeps the smallest shares in it.
    running = np.cumsum(mass / mass.max())
    index = np.searchsorted(running, rng.random(count) * running[-1], side="right")
    return np.minimum(index, np.searchsorted(running, running[-1], side="left"))


def _distinct_draw(rng: np.random.Generator, mass: np.ndarray, count: int) -> np.ndarray:
    """``count`` different rows, uniformly among those of positive mass; all others only when these run out."""
    able = np.flatnonzero(mass > 0)
    if len(able) >= count:
        return rng.choice(able, size=count, replace=False)
    return np.concatenate([able, rng.choice(able, size=count - len(able))])


def _rest(rng: np.random.Generator, mass: np.ndarray, chosen: Any, count: int) -> np.ndarray:
    """``count`` more rows besides ``chosen``, different ones as long as there are any of positive mass."""
    left = mass.copy()
    left[np.asarray(chosen)] = 0.0
    return _distinct_draw(rng, left if left.any() else (mass > 0).astype(float), count)


def _directions(rows: Rows) -> np.ndarray:
    """1 for rows that have a direction, 0 for zero rows."""
    nonzero = rows.nonzero
    if not nonzero.any():
        raise InputError("X holds zero vectors only, which have no direction; spherical clustering needs others.")
    return nonzero.astype(np.float64)
