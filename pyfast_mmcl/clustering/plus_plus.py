"""k-means++: centres drawn one by one, and in parts where all rows are too many to look at for every centre.

All draws come from one generator that the caller owns, and all sums that a draw depends on are taken in one fixed
order in float64: the same seed gives the same rows whatever the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.distances import nearest_cost
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.nearer import Nearer
from pyfast_mmcl.ops.knn import draw_in_parts

_WHOLE = 256  # centres up to which they are drawn from all rows at once
_ROWS_PER_PART = 32  # rows per part from which the parts are made
_AHEAD = 3  # one of so many draws left is given to parts by their present inertia, before it is looked at again


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
    if backend in ("auto", "native") and rows.runs is not None and rows.runs.squares_fit:
        uniforms = torch.from_numpy(rng.random(1 + (K - 1) * trials))
        drawn = rows.runs.draw(K, uniforms, torch.from_numpy(weights)).numpy()
        # Where every row lies on a centre already (duplicates) any other row is as good.
        return rows.take(np.concatenate([drawn, other_rows(rng, weights, drawn, K - len(drawn))]))
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

    The parts are the rows nearest to each of √K centres that are drawn first, from a sample and in the same way. From
    then on parts share the draws by their inertia, and within each rows are drawn as in k-means++. Up to
    K = 256 this is k-means++ itself.
    """
    weights = np.ones(len(rows)) if weights is None else weights
    able = np.flatnonzero(weights > 0)
    if K <= _WHOLE or len(able) <= K:
        return kmeans_plus_plus(rows, K, rng, weights=weights, backend=backend)
    heads = int(np.ceil(np.sqrt(K)))
    some = np.sort(rng.choice(able, size=min(len(able), _ROWS_PER_PART * heads), replace=False))
    sample = Rows(rows.take(some), rows.center_dtype)
    centers = plus_plus_in_parts(sample, heads, rng, weights=weights[some], backend=backend)
    cost, owner = nearest_cost(rows, centers, metric="l2", backend=backend)
    order = able[np.argsort(owner[able], kind="stable")]
    parts = _Parts(rows, order, centers, owner[order], cost[order], weights[order], backend)
    chosen = parts.choose(rng, K - heads)
    left = K - heads - len(chosen)
    picked = np.concatenate([order[chosen], other_rows(rng, weights, order[chosen], left)]) if left else order[chosen]
    return torch.cat([centers, rows.take(picked)])


class _Parts:
    """Rows in the order of their parts, drawn from as in k-means++ while those of other parts are left alone."""

    def __init__(
        self,
        rows: Rows,
        order: np.ndarray,  # [n] numbers of rows
        centers: Tensor,  # [H, D]
        owner: np.ndarray,  # [n] ascending
        cost: np.ndarray,  # [n]
        weights: np.ndarray,  # [n]
        backend: str,
    ) -> None:
        table = rows.take(order)
        if table.dtype != torch.float32:
            # Differences to the part's own centre, in units of the largest: float32 holds these closely enough.
            unit = 2.0 ** math.ceil(math.log2(max(math.sqrt(cost.max()), 1e-300)))
            mine = torch.from_numpy(owner).to(centers.device)
            table, cost = ((table - centers[mine]) / unit).float(), cost / unit / unit
        self._table = table.cpu().contiguous()
        # What is drawn is drawn on the CPU, wherever distances are computed.
        self._backend = "auto" if backend == "triton" else backend
        self._weights, self._cost = weights, cost
        self._starts = np.append(np.flatnonzero(np.diff(owner, prepend=-1)), len(order))

    def choose(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Places of ``count`` drawn rows in the order, fewer where all rows lie on a centre before."""
        chosen = np.empty(0, dtype=np.int64)
        trials = 2 + int(np.log(count))
        while True:
            # A part without mass has had all its rows drawn.
            mass = np.add.reduceat(self._cost * self._weights, self._starts[:-1])
            left = count - len(chosen)
            if left == 0 or not mass.any():
                return chosen
            share = rng.multinomial(-(-left // _AHEAD), mass / mass.sum())
            draws = np.concatenate([[0], np.cumsum(share)])
            uniform = rng.random((int(draws[-1]), trials))
            drawn = draw_in_parts(
                self._table, self._weights, self._cost, self._starts, draws, uniform, backend=self._backend
            )
            chosen = np.concatenate([chosen, drawn[drawn >= 0]])


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
