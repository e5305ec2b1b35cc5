"""Balanced k-means: clusters of equal size, or of a size within given bounds."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.base import generator, whole_number
from pyfast_mmcl.clustering.centroid import CentroidEstimator
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.lloyd import Sums, centers_from_sums, mean_update
from pyfast_mmcl.clustering.sizes import label_sums, sized_labels
from pyfast_mmcl.train.registry import estimator


@estimator(
    family="baseline",
    paper="Bradley, Bennett and Demiriz, Constrained k-means clustering, Microsoft Research MSR-TR-2000-65",
)
class BalancedKMeans(CentroidEstimator):
    """K-means whose clusters hold between ``size_min`` and ``size_max`` rows; by default ⌊N/K⌋ to ⌈N/K⌉.

    ``minimise ((x - centers[labels]) ** 2).sum()  subject to  size_min ≤ (labels == k).sum() ≤ size_max``

    Parameters
    ----------
    n_clusters : int or str, default 8
        K, or a criterion to find it by; see ``clustering.how_many``.
    size_min, size_max : int or None, default None
        Bounds on the rows of a cluster. Both None: clusters of equal size, ⌊N/K⌋ to ⌈N/K⌉. One given: the other is 0
        or N.
    init, n_init, tol, spherical, random_state, backend
        As for KMeans; ``n_init`` is a whole number, default 1.
    max_iter : int, default 100
        Most iterations of one run.

    Attributes
    ----------
    cluster_centers_, labels_, inertia_, n_iter_, inertia_history_, cluster_counts_, n_clusters_, n_features_in_
        As for KMeans, the labels within the bounds.

    Raises
    ------
    InputError
        Bad parameters or input, or bounds that N rows and K clusters cannot meet.

    Notes
    -----
    Upper bounds are met by an auction, whose total cost is within 0.1 % of the mean cost per row of the smallest one;
    the reference solves a flow problem instead, which takes N·K numbers. Lower bounds are met greedily afterwards.
    ``predict`` gives new rows to their nearest centre and knows no bounds.

    References
    ----------
    Bradley, Bennett and Demiriz, MSR-TR-2000-65 (2000); Bertsekas, Annals of Operations Research 1988 (auction).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfast_mmcl.clustering import BalancedKMeans
    >>> X = np.array([[0.0], [1.0], [2.0], [50.0]])
    >>> BalancedKMeans(2, random_state=0).fit(X).cluster_counts_.tolist()
    [2, 2]
    """

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        size_min: int | None = None,
        size_max: int | None = None,
        init: Any = "auto",
        n_init: int = 1,
        max_iter: int = 100,
        tol: float = 1e-4,
        spherical: bool = False,
        random_state: Any = None,
        backend: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.size_min = size_min
        self.size_max = size_max
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.spherical = spherical
        self.random_state = random_state
        self.backend = backend

    def fit(self, X: Any, y: Any = None) -> BalancedKMeans:
        """Cluster the rows of X [N, D]; ``y`` is ignored."""
        runs, max_iter, tol = (
            whole_number(self.n_init, "n_init"),
            whole_number(self.max_iter, "max_iter"),
            self._tolerance(),
        )
        rows, rng = self._metric_rows(self._read_fit(X)), generator(self.random_state)
        K = self._count_clusters(rows, rng)
        least, most = self._bounds(len(rows), K)
        how: dict[str, Any] = {
            "step": partial(_step, least=least, most=most, metric=self._metric, backend=self.backend),
            "update": partial(_update, metric=self._metric, backend=self.backend),
            "tol": tol * rows.variance(),
            "max_iter": max_iter,
        }
        self._keep_best(rows, K, rng, runs, **how)
        return self

    def _bounds(self, N: int, K: int) -> tuple[int, int]:
        if self.size_min is None and self.size_max is None:
            return N // K, -(-N // K)
        least = 0 if self.size_min is None else whole_number(self.size_min, "size_min", least=0)
        most = N if self.size_max is None else whole_number(self.size_max, "size_max")
        if not least <= most or not least * K <= N <= most * K:
            raise InputError(
                f"size_min={self.size_min} and size_max={self.size_max} cannot be met by n_samples={N} in "
                f"n_clusters={K}; choose size_min ≤ {N // K} and size_max ≥ {-(-N // K)}."
            )
        return least, most


def _step(rows: Rows, centers: Tensor, *, least: int, most: int, metric: str, backend: str) -> Sums:
    labels = sized_labels(rows, centers, least, most, metric=metric, backend=backend)
    sums, counts, cost = label_sums(rows, centers, labels, metric=metric)
    return sums, counts, torch.from_numpy(labels).to(rows.device), cost


def _update(
    rows: Rows, centers: Tensor, sums: Tensor, counts: Tensor, labels: Tensor, *, metric: str, backend: str
) -> Tensor:
    if metric == "cosine":  # zero rows may have any label here, which mean_update does not expect
        return centers_from_sums(sums, counts, centers, metric=metric)
    return mean_update(rows, centers, sums, counts, labels, metric=metric, backend=backend)
