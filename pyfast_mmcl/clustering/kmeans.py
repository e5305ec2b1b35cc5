"""K-means: the plain baseline, on the exact centroid step of ``ops.knn``."""

from __future__ import annotations

import numbers
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.clustering.base import Estimator, generator, whole_number
from pyfast_mmcl.clustering.distances import every_cost, nearest_cost
from pyfast_mmcl.clustering.init import INITS, initial_centers
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.lloyd import block_step, centers_from_sums, lloyd, mean_update
from pyfast_mmcl.train.registry import estimator


@estimator(
    family="baseline", paper="Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 1982"
)
class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """K-means by Lloyd's iterations: every row belongs to its nearest centre, every centre is the mean of its rows.

    ``minimise ((x - centers[labels]) ** 2).sum()``; spherical: ``(1 - cos(x, centers[labels])).sum()``.

    Parameters
    ----------
    n_clusters : int or str, default 8
        K, between 1 and N, or how to find it: "auto" (which is "silhouette"), "silhouette", "gap" or "x-means"; see
        ``clustering.how_many``.
    init : "auto", "k-means++", "k-means||", "random" or array [K, D], default "auto"
        "auto" is greedy k-means++ for small and k-means|| for large N·K. A given array starts the only run.
    n_init : "auto" or int, default "auto"
        Runs from different starts, of which the one with the lowest inertia is kept. "auto": 10 for "random", else 1
        (scikit-learn's rule).
    max_iter : int, default 300
        Most iterations of one run.
    tol : float, default 1e-4
        A run ends when the centres move by at most ``tol`` times the mean variance of the features (squared distance,
        all centres together), or when no label changes. Default of scikit-learn.
    spherical : bool, default False
        Compare directions only: rows count by their cosine, centres have norm 1. Zero rows go to cluster 0 and
        influence no centre.
    random_state : None, int, numpy Generator or RandomState, default None
        Fixes every draw; equal seeds give equal bits for any number of threads.
    backend : str, default "auto"
        Passed to ``ops.knn``.

    Attributes
    ----------
    cluster_centers_ : [K, D], float64 for float64 input, else float32
    labels_ : int64 [N]
    inertia_ : float, the minimised sum
    n_clusters_ : int, K
    n_iter_ : int, iterations of the kept run
    inertia_history_ : tuple of float, inertia after each assignment of the kept run
    n_steps_ : int, batches seen by ``partial_fit`` since ``fit``
    cluster_counts_ : int64 [K], rows behind each centre (all batches together after ``partial_fit``)
    n_features_in_ : int, D

    Raises
    ------
    InputError
        Bad parameters or input, in one sentence. A ConvergenceWarning says when fewer than K clusters were found.

    Notes
    -----
    Empty clusters are refilled with the rows farthest from their centres, in a fixed order. Input may be NumPy, torch
    (any device) or a memory map, which is read in blocks and never loaded whole.

    References
    ----------
    Lloyd 1982; Arthur and Vassilvitskii, SODA 2007 (k-means++); Bahmani et al., VLDB 2012 (k-means||); Dhillon and
    Modha, Machine Learning 2001 (spherical); Sculley, WWW 2010 (``partial_fit``).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfast_mmcl.clustering.kmeans import KMeans
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> model = KMeans(2, random_state=0).fit(X)
    >>> sorted(model.cluster_centers_.ravel().tolist())
    [0.5, 10.5]
    """

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        init: Any = "auto",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        spherical: bool = False,
        random_state: Any = None,
        backend: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.spherical = spherical
        self.random_state = random_state
        self.backend = backend

    def fit(self, X: Any, y: Any = None) -> KMeans:
        """Cluster the rows of X [N, D]; ``y`` is ignored."""
        runs, max_iter, tol = self._runs(), whole_number(self.max_iter, "max_iter"), self._tolerance()
        rows = self._read_fit(X)
        rows, rng = self._metric_rows(rows), generator(self.random_state)
        K = self._count_clusters(rows, rng)
        options: dict[str, Any] = {"metric": self._metric, "backend": self.backend}
        how: dict[str, Any] = {
            "step": partial(block_step, **options),
            "update": partial(mean_update, **options),
            "tol": tol * rows.variance() if tol else 0.0,
            "max_iter": max_iter,
        }
        # min keeps the first of equals, so the choice does not depend on anything but the draws.
        best = min((lloyd(rows, self._start(rows, K, rng), **how) for _ in range(runs)), key=lambda run: run.inertia)
        self.n_iter_, self.inertia_history_, self.n_steps_ = best.n_iter, best.inertias, 0
        self._keep(rows, best.centers, best.labels, best.counts, best.inertia)
        means = best.sums / best.counts.clamp_min(1)[:, None]
        self._means = torch.where(best.counts[:, None] > 0, means, best.centers.double()).cpu()
        self._warn_empty(best.counts)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> KMeans:
        """Update the centres with one batch X [n, D]: mini-batch k-means.

        ``c[k] += (x - c[k]) / count[k]`` for the rows x of cluster k, one after the other: with the assignments of the
        batch fixed first, that is the mean of all rows the centre ever got, updated in one go. The first batch must
        hold at least K rows and starts the centres as in ``fit``; after ``fit`` its centres go on. ``labels_`` and
        ``inertia_`` are those of the batch before the update.

        Reference: Sculley, *Web-scale k-means clustering*, WWW 2010.
        """
        if not hasattr(self, "cluster_centers_"):
            rows = self._read_fit(X)
            rows, rng = self._metric_rows(rows), generator(self.random_state)
            K = self._count_clusters(rows, rng)
            centers = self._start(rows, K, rng)
            self._means, total, self.n_steps_ = centers.double().cpu(), torch.zeros(K, dtype=torch.int64), 0
        else:
            rows = self._metric_rows(self._read_new(X))
            centers, total = self._centers_for(rows), torch.as_tensor(self.cluster_counts_).cpu()
        sums, counts, labels, inertia = block_step(rows, centers, metric=self._metric, backend=self.backend)
        fresh, sums = counts.cpu(), sums.cpu()
        total = total + fresh
        # A centre that got no row yet keeps the row it started from.
        self._means = self._means + (sums - fresh[:, None] * self._means) / total.clamp_min(1)[:, None]
        means = self._means.to(rows.device)
        centers = centers_from_sums(means, torch.ones_like(counts), centers, metric=self._metric)
        self.n_steps_ += 1
        self._keep(rows, centers, labels, total, inertia)
        return self

    def predict(self, X: Any) -> Any:
        """Nearest centre of every row: int64 [N]."""
        rows = self._metric_rows(self._read_new(X))
        _, labels = nearest_cost(rows, self._centers_for(rows), metric=self._metric, backend=self.backend)
        return rows.give(torch.from_numpy(labels))

    def transform(self, X: Any) -> Any:
        """Distances to all centres [N, K]: Euclidean, or 1 − cosine when spherical."""
        rows = self._metric_rows(self._read_new(X))
        cost = every_cost(rows, self._centers_for(rows), metric=self._metric, backend=self.backend)
        distance = torch.from_numpy(cost if self.spherical else np.sqrt(cost))
        return rows.give(distance.to(rows.result_dtype))

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the inertia of X under the fitted centres: larger is better."""
        rows = self._metric_rows(self._read_new(X))
        cost, _ = nearest_cost(rows, self._centers_for(rows), metric=self._metric, backend=self.backend)
        return -float(cost.sum())

    @property
    def _metric(self) -> str:
        return "cosine" if self.spherical else "l2"

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _metric_rows(self, rows: Rows) -> Rows:
        return rows.unit() if self.spherical else rows

    def _start(self, rows: Rows, K: int, rng: np.random.Generator) -> Tensor:
        return initial_centers(rows, K, self.init, rng, spherical=self.spherical, backend=self.backend)

    def _centers_for(self, rows: Rows) -> Tensor:
        """The fitted centres in the precision they were computed in, on the device of ``rows``."""
        return torch.as_tensor(self.cluster_centers_).to(device=rows.device, dtype=self._fit_dtype)

    def _keep(self, rows: Rows, centers: Tensor, labels: Tensor, counts: Tensor, inertia: float) -> None:
        self.cluster_centers_ = rows.give(centers.to(rows.result_dtype))
        self.labels_, self.cluster_counts_, self.inertia_ = rows.give(labels), rows.give(counts), float(inertia)

    def _runs(self) -> int:
        if isinstance(self.init, str) and self.init not in INITS:
            raise unknown_name("init", self.init, INITS)
        if isinstance(self.n_init, str) and self.n_init != "auto":
            raise unknown_name("n_init", self.n_init, ["auto"])
        runs = 10 if isinstance(self.init, str) and self.init == "random" else 1
        if self.n_init != "auto":
            runs = whole_number(self.n_init, "n_init")
        # From given centres every run would be the same.
        return runs if isinstance(self.init, str) else 1

    def _tolerance(self) -> float:
        if isinstance(self.tol, numbers.Real) and 0 <= self.tol < np.inf:
            return float(self.tol)
        raise InputError(f"tol must be a finite number of at least 0, got {self.tol!r}.")

    def _warn_empty(self, counts: Tensor) -> None:
        found = int((counts > 0).sum())
        if found < len(counts):
            warnings.warn(
                f"Number of distinct clusters ({found}) found smaller than n_clusters ({len(counts)}). Possibly due to "
                "duplicate points in X.",
                ConvergenceWarning,
                stacklevel=3,
            )
