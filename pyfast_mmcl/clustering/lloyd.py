"""The one centroid loop. K-means and its kin differ in how a step assigns rows and how sums become centres.

step(rows, centers)                          → sums [K, D] float64, counts [K], labels [N], inertia
update(rows, centers, sums, counts, labels)  → next centers [K, D]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.distances import nearest_cost
from pyfast_mmcl.clustering.inputs import Rows, unit_rows
from pyfast_mmcl.ops.knn import lloyd_step
from pyfast_mmcl.ops.knn.runs import CENTERS_REST, EMPTY_CLUSTER, OUT_OF_STEPS, KMeansRuns

Sums = tuple[Tensor, Tensor, Tensor, float]


@dataclass(frozen=True)
class Fit:
    """Outcome of :func:`lloyd`; labels, sums, counts and inertia belong to ``centers``."""

    centers: Tensor  # [K, D]
    labels: Tensor  # [N]
    sums: Tensor  # [K, D] float64
    counts: Tensor  # [K]
    n_iter: int
    converged: bool
    inertias: tuple[float, ...]  # of every step in order

    @property
    def inertia(self) -> float:
        return self.inertias[-1]


def block_step(rows: Rows, centers: Tensor, *, metric: str = "l2", backend: str = "auto") -> Sums:
    """``ops.lloyd_step`` over the blocks of ``rows``, added in their order."""
    labels: list[Tensor] = []
    for _, block in rows.blocks():
        part = lloyd_step(block, centers, metric=metric, backend=backend)
        labels.append(part[2])
        if len(labels) == 1:
            sums, counts, _, inertia = part
        else:
            sums, counts, inertia = sums + part[0], counts + part[1], inertia + part[3]
    return sums, counts, torch.cat(labels) if len(labels) > 1 else labels[0], inertia


def mean_update(
    rows: Rows,
    centers: Tensor,  # [K, D]
    sums: Tensor,  # [K, D] float64
    counts: Tensor,  # [K]
    labels: Tensor,  # [N]
    *,
    metric: str = "l2",
    backend: str = "auto",
    tied: np.ndarray | None = None,  # numbers of rows
) -> Tensor:
    """Centres as means of their rows, or for cosine as directions of their sums; empty clusters are refilled first.

    A centre that no row supports (or whose rows cancel out) stays where it is. Rows that are ``tied`` to others do not
    move into an empty cluster.
    """
    if metric == "cosine":
        # Zero rows have similarity 0 to every centre: they keep none alive.
        zero = ~rows.everyones(rows.nonzero)
        if zero.any():
            theirs = rows.everyones(labels.cpu().numpy())[zero]
            counts = counts - torch.from_numpy(np.bincount(theirs, minlength=len(counts))).to(counts)
    if not bool((counts > 0).all()):
        sums, counts = refill_empty(rows, centers, sums, counts, labels, metric=metric, backend=backend, tied=tied)
    return centers_from_sums(sums, counts, centers, metric=metric)


def centers_from_sums(sums: Tensor, counts: Tensor, centers: Tensor, *, metric: str) -> Tensor:
    """``sums / counts`` (l2) or ``sums / ‖sums‖`` (cosine) [K, D], and the old centre where that is undefined."""
    if metric == "cosine":
        new = unit_rows(sums)
        defined = (sums != 0).any(dim=1)
    else:
        new = sums / counts.clamp_min(1)[:, None]
        defined = counts > 0
    return torch.where(defined[:, None], new.to(centers.dtype), centers)


def refill_empty(
    rows: Rows,
    centers: Tensor,
    sums: Tensor,
    counts: Tensor,
    labels: Tensor,
    *,
    metric: str,
    backend: str,
    tied: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """Give every empty cluster the row farthest from its own centre, taken out of its old cluster.

    Rows go in order of falling cost, ties by smaller index. The only member of a cluster stays, and so does a row that
    lies on its centre: with fewer distinct rows than clusters some clusters remain empty. The inertia cannot rise.
    """
    cost, _ = nearest_cost(rows, centers, metric=metric, backend=backend)
    if metric == "cosine":
        cost[~rows.nonzero] = 0.0  # a zero row has no direction to give a centre
    if tied is not None:
        cost[tied] = 0.0
    cost = rows.everyones(cost)
    empty = np.flatnonzero(counts.cpu().numpy() == 0)
    donors, size = rows.everyones(labels.cpu().numpy()), counts.cpu().numpy().copy()
    moved: list[int] = []
    for row in np.argsort(-cost, kind="stable"):
        if len(moved) == len(empty) or cost[row] <= 0:
            break
        if size[donors[row]] > 1:
            size[donors[row]] -= 1
            moved.append(int(row))
    taken = rows.take(np.array(moved, dtype=np.int64)).double()
    sums, counts = sums.clone(), counts.clone()
    for value, row, target in zip(taken, moved, empty, strict=False):
        sums[donors[row]] -= value
        sums[target] = value
        counts[donors[row]] -= 1
        counts[target] = 1
    return sums, counts


def lloyd(
    rows: Rows,
    centers: Tensor,
    *,
    step: Callable[[Rows, Tensor], Sums] | None = None,
    update: Callable[[Rows, Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
    metric: str = "l2",
    backend: str = "auto",
    tol: float = 0.0,
    max_iter: int = 300,
) -> Fit:
    """Alternate ``step`` and ``update`` until labels repeat, centres move by at most ``tol``, or ``max_iter`` steps.

    ``labels = cdist(x, c).argmin(1); c[k] = x[labels == k].mean(0)``

    Args:
        rows: [N, D].
        centers: [K, D] to start from, in ``rows.center_dtype`` on ``rows.device``.
        step, update: what tells variants apart, see the head of this file; by default those of k-means.
        metric, backend: of the default step and update.
        tol: largest ``((new - old) ** 2).sum()`` that counts as standing still, in squared units of the rows.
        max_iter: at least 1.

    Reference: Lloyd, *Least squares quantization in PCM*, 1982.
    """
    mean = partial(mean_update, metric=metric, backend=backend)
    runs = runs_for(rows, len(centers), metric, backend) if step is None and update is None else None
    if runs is not None and runs.reach(centers):
        return compiled_lloyd(runs, rows, centers, update=mean, tol=tol, max_iter=max_iter)
    step, update = step or partial(block_step, metric=metric, backend=backend), update or mean
    inertias: list[float] = []
    previous = None
    shift = np.inf
    for n_iter in range(1, max_iter + 1):
        sums, counts, labels, inertia = step(rows, centers)
        inertias.append(inertia)
        if previous is not None and rows.same(labels, previous):
            return Fit(centers, labels, sums, counts, n_iter, True, tuple(inertias))
        new = update(rows, centers, sums, counts, labels)
        shift = _shift(new, centers)
        centers, previous = new, labels
        if shift <= tol:
            break
    sums, counts, labels, inertia = step(rows, centers)  # labels of the last centres
    return Fit(centers, labels, sums, counts, n_iter, shift <= tol, (*inertias, inertia))


def runs_for(rows: Rows, K: int, metric: str, backend: str) -> KMeansRuns | None:
    """The compiled runs of ``rows`` where they take and speed up k-means with K centres."""
    wanted = metric == "l2" and backend in ("auto", "native") and KMeansRuns.sized(len(rows), K)
    return rows.runs if wanted and rows.runs is not None and rows.runs.pays else None


def compiled_lloyd(
    runs: KMeansRuns,
    rows: Rows,
    centers: Tensor,
    *,
    update: Callable[[Rows, Tensor, Tensor, Tensor, Tensor], Tensor],
    tol: float,
    max_iter: int,
) -> Fit:
    """:func:`lloyd` of k-means by ``runs``; ``update`` is asked where a cluster runs empty."""
    centers, fresh, rest = centers.clone(memory_format=torch.contiguous_format), True, False
    inertias: list[float] = []
    n_iter = 0
    while True:
        end, found = runs.advance(centers, tol=tol, steps=0 if rest else max_iter - n_iter, fresh=fresh)
        inertias += found
        n_iter += len(found) - (end in (OUT_OF_STEPS, CENTERS_REST))
        last = runs.assigned(len(centers))
        if end != EMPTY_CLUSTER:
            break
        new = update(rows, centers, last.sums, last.counts, last.labels).contiguous()
        centers, fresh, rest = new, False, _shift(new, centers) <= tol
    # The history follows from the sums, the result from the rows.
    inertias[-1] = float(last.costs.numpy().sum())
    return Fit(centers, last.labels, last.sums, last.counts, n_iter, rest or end != OUT_OF_STEPS, tuple(inertias))


def _shift(new: Tensor, old: Tensor) -> float:
    return float(np.square((new.double() - old.double()).cpu().numpy()).sum())
