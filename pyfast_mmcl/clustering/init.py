"""First centres: k-means++, its parallel form k-means‖, k-means on growing samples, random rows, or given ones.

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
from pyfast_mmcl.clustering.growing import growing_centers
from pyfast_mmcl.clustering.inputs import Rows, read_rows, unit_rows
from pyfast_mmcl.clustering.plus_plus import distinct_draw, draw, kmeans_plus_plus, other_rows, plus_plus_in_parts
from pyfast_mmcl.clustering.shared import SharedRows

INITS = ("auto", "k-means++", "k-means||", "growing", "random")
# k-means++ reads all rows K times, k-means|| ten times for each of K, growing samples never all of them.
_GROWING_FROM = 2**20  # N·K
_OVERSAMPLING, _ROUNDS = 2.0, 5  # candidates per cluster and round, rounds: Bahmani et al. 2012, section 5


def initial_centers(
    rows: Rows, K: int, init: Any, rng: np.random.Generator, *, spherical: bool = False, backend: str = "auto"
) -> Tensor:
    """Centres [K, D] to start from, in ``rows.center_dtype``.

    Args:
        rows: [N, D], N ≥ K; unit (or zero) rows when spherical.
        init: "auto" (k-means++, or "growing" once N·K ≥ 2²⁰), "k-means++", "k-means||", "growing", "random", or centres
            [K, D].
        rng: where all randomness comes from.

    Raises:
        InputError: unknown name, or given centres of the wrong shape or not finite.
    """
    if not isinstance(init, str):
        return given_centers(rows, K, init, spherical=spherical)
    if init not in INITS:
        raise unknown_name("init", init, INITS)
    weights = _directions(rows) if spherical else np.ones(rows.total)
    if init == "auto":
        init = "growing" if rows.total * K >= _GROWING_FROM else "k-means++"
    if init == "growing":
        metric = "cosine" if spherical else "l2"
        return growing_centers(rows, K, rng, weights=weights, metric=metric, backend=backend)
    if init == "random":
        return rows.take(distinct_draw(rng, weights, K))
    if isinstance(rows, SharedRows):
        # Every process draws for itself, the same from the same rows.
        rows = Rows(rows.take(np.arange(rows.total)), rows.center_dtype)
    seed = kmeans_plus_plus if init == "k-means++" else kmeans_parallel
    return seed(rows, K, rng, weights=weights, backend=backend)


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
    chosen = draw(rng, weights, 1)
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
        return rows.take(np.concatenate([chosen, other_rows(rng, weights, chosen, K - len(chosen))]))
    votes = np.bincount(owner, weights=weights, minlength=len(chosen))
    candidates = Rows(rows.take(chosen), rows.center_dtype)
    return plus_plus_in_parts(candidates, K, rng, weights=votes, backend=backend)


def _directions(rows: Rows) -> np.ndarray:
    """1 for rows that have a direction, 0 for zero rows."""
    nonzero = rows.everyones(rows.nonzero)
    if not nonzero.any():
        raise InputError("X holds zero vectors only, which have no direction; spherical clustering needs others.")
    return nonzero.astype(np.float64)
