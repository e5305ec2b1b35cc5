"""Mini-batch k-means: centres that learn from a few rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.base import generator, number_in, whole_number
from pyfast_mmcl.clustering.centroid import CentroidEstimator
from pyfast_mmcl.clustering.distances import nearest_cost
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.train.registry import estimator

_SMOOTHING = 2.0  # weight of a batch in the running inertia: this times its share of the rows, as scikit-learn has it


@estimator(family="baseline", paper="Sculley, Web-scale k-means clustering, WWW 2010")
class MiniBatchKMeans(CentroidEstimator):
    """Mini-batch k-means: every batch moves its centres towards the mean of all rows they ever got.

    ``c[k] += (x - c[k]) / count[k]`` for the rows x of a batch whose nearest centre is k

    Parameters
    ----------
    n_clusters : int or str, default 8
        K, or a criterion to find it by; see ``clustering.how_many``.
    init : "auto", "k-means++", "k-means||", "growing", "random" or array [K, D], default "auto"
        As for KMeans; names start from a sample of ``init_size`` rows.
    batch_size : int, default 1024
        Rows of a batch, drawn with replacement. Default of scikit-learn.
    max_iter : int, default 100
        Most passes: batches stop once they have drawn ``max_iter`` · N rows.
    tol : float, default 0.0
        Stop when the centres move by at most ``tol`` times the mean variance of the features in one batch (squared);
        0 leaves this off. Default of scikit-learn.
    max_no_improvement : int or None, default 10
        Stop after so many batches in a row that do not lower the smoothed inertia. Default of scikit-learn.
    init_size : int or None, default None
        Rows of the sample the first centres are found on; None: 3 batches, and at least 16 K. At least K.
    reassignment_ratio : float, default 0.01
        Centres that lately got fewer rows than this share of the largest move to rows of the batch. Default of
        scikit-learn, which counts all rows a centre ever got.
    spherical : bool, default False
        Compare directions only.
    random_state : None, int, numpy Generator or RandomState, default None
        Fixes every draw; equal seeds give equal bits for any number of threads.
    backend : str, default "auto"
        Passed to ``ops.knn``.

    Attributes
    ----------
    cluster_centers_, labels_, inertia_, n_clusters_, n_features_in_ : as for KMeans, of all rows after the last batch
    n_iter_ : int, passes, rounded up
    n_steps_ : int, batches
    cluster_counts_ : int64 [K], rows that each centre has learnt from

    Raises
    ------
    InputError
        Bad parameters or input, in one sentence.

    References
    ----------
    Sculley, *Web-scale k-means clustering*, WWW 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfast_mmcl.clustering import MiniBatchKMeans
    >>> X = np.repeat([[0.0], [10.0]], 50, axis=0)
    >>> sorted(MiniBatchKMeans(2, random_state=0).fit(X).cluster_centers_.ravel().tolist())
    [0.0, 10.0]
    """

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        init: Any = "auto",
        batch_size: int = 1024,
        max_iter: int = 100,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        reassignment_ratio: float = 0.01,
        spherical: bool = False,
        random_state: Any = None,
        backend: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.reassignment_ratio = reassignment_ratio
        self.spherical = spherical
        self.random_state = random_state
        self.backend = backend

    def fit(self, X: Any, y: Any = None) -> MiniBatchKMeans:
        """Cluster the rows of X [N, D]; ``y`` is ignored."""
        size, passes = whole_number(self.batch_size, "batch_size"), whole_number(self.max_iter, "max_iter")
        tol, ratio = self._tolerance(), number_in(self.reassignment_ratio, "reassignment_ratio")
        patience = None
        if self.max_no_improvement is not None:
            patience = whole_number(self.max_no_improvement, "max_no_improvement")
        rows, rng = self._metric_rows(self._read_fit(X)), generator(self.random_state)
        K = self._count_clusters(rows, rng)
        centers = self._start(self._sample(rows, K, size, rng), K, rng)
        self._means, self.n_steps_ = centers.double().cpu(), 0
        total, recent = torch.zeros(K, dtype=torch.int64), torch.zeros(K, dtype=torch.int64)
        size = min(size, len(rows))
        watch = _Watch(min(1.0, _SMOOTHING * size / (len(rows) + 1)), patience)
        limit = tol * rows.variance() if tol else -1.0
        for _ in range(-(-passes * len(rows) // size)):
            batch = Rows(rows.take(np.sort(rng.integers(len(rows), size=size))), rows.center_dtype)
            old, before = centers, total
            centers, total, _, inertia = self._learn(batch, centers, total)
            recent += total - before
            # Only now and then: a centre needs time to collect rows.
            if self.n_steps_ % max(1, 10 * K // size) == 0:
                centers, total = self._reassign(batch, centers, total, recent, ratio, rng)
                recent.zero_()
            moved = float(np.square((centers.double() - old.double()).cpu().numpy()).sum())
            if watch.stalls(inertia / size) or moved <= limit:
                break
        self.n_iter_ = -(-self.n_steps_ * size // len(rows))
        cost, labels = nearest_cost(rows, centers, metric=self._metric, backend=self.backend)
        self._keep(rows, centers, torch.from_numpy(labels), total, float(cost.sum()))
        self._warn_empty(torch.bincount(torch.from_numpy(labels), minlength=K))
        return self

    def partial_fit(self, X: Any, y: Any = None) -> MiniBatchKMeans:
        """Learn from one batch X [n, D]; the first must hold at least K rows. See ``KMeans.partial_fit``."""
        return self._partial_fit(X)

    def _sample(self, rows: Rows, K: int, size: int, rng: np.random.Generator) -> Rows:
        """The rows that first centres are found on."""
        wanted = max(3 * size, 16 * K)
        if self.init_size is not None:
            wanted = max(whole_number(self.init_size, "init_size"), K)
        if wanted >= len(rows):
            return rows
        able = np.flatnonzero(rows.nonzero) if self.spherical else len(rows)
        picked = rng.choice(able, size=min(wanted, able if isinstance(able, int) else len(able)), replace=False)
        return Rows(rows.take(np.sort(picked)), rows.center_dtype) if len(picked) >= K else rows

    def _reassign(
        self, batch: Rows, centers: Tensor, total: Tensor, recent: Tensor, ratio: float, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Centres that got too few of the ``recent`` rows [K] move to rows of the batch, drawn as in k-means++."""
        starved = np.flatnonzero((recent < ratio * recent.max()).numpy())
        if len(starved) == 0:
            return centers, total
        cost, _ = nearest_cost(batch, centers, metric=self._metric, backend=self.backend)
        if self.spherical:
            cost[~batch.nonzero] = 0.0
        starved = starved[: min(np.count_nonzero(cost), max(1, len(batch) // 2))]
        if len(starved) == 0:
            return centers, total
        picked = batch.take(rng.choice(len(batch), size=len(starved), replace=False, p=cost / cost.sum()))
        centers, total = centers.clone(), total.clone()
        centers[starved] = picked
        self._means[starved] = picked.double().cpu()
        kept = np.setdiff1d(np.arange(len(centers)), starved)
        total[starved] = int(total[kept].min()) if len(kept) else 0
        return centers, total


class _Watch:
    """The running mean of inertias per row, and whether it has stopped falling."""

    def __init__(self, weight: float, patience: int | None) -> None:
        self._weight, self._patience = weight, patience
        self._mean: float | None = None
        self._best, self._since = np.inf, 0

    def stalls(self, inertia: float) -> bool:
        mean = inertia if self._mean is None else (1 - self._weight) * self._mean + self._weight * inertia
        self._mean = mean
        self._since = 0 if mean < self._best else self._since + 1
        self._best = min(self._best, mean)
        return self._patience is not None and self._since >= self._patience
