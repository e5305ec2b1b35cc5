"""K-means: the plain baseline, on the exact centroid step of ``ops.knn``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.clustering.base import generator, whole_number
from pyfast_mmcl.clustering.centroid import CentroidEstimator
from pyfast_mmcl.clustering.init import INITS
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.shared import share, shared_seed, shared_step, together
from pyfast_mmcl.train.registry import estimator


@estimator(
    family="baseline", paper="Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 1982"
)
class KMeans(CentroidEstimator):
    """K-means by Lloyd's iterations: every row belongs to its nearest centre, every centre is the mean of its rows.

    ``minimise ((x - centers[labels]) ** 2).sum()``; spherical: ``(1 - cos(x, centers[labels])).sum()``.

    Parameters
    ----------
    n_clusters : int or str, default 8
        K, between 1 and N, or how to find it: "auto" (which is "silhouette"), "silhouette", "gap", "x-means" or
        "g-means"; see ``clustering.how_many``.
    init : "auto", "k-means++", "k-means||", "growing", "random" or array [K, D], default "auto"
        "auto" is greedy k-means++ for small and "growing" (k-means on growing samples) for large N·K. A given array
        starts the only run.
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
    processes : None, "all" or a group of torch.distributed, default None
        ``fit`` in several processes at once, each of which passes its own rows: all find the same centres of all rows
        (``labels_`` are of one's own). float32 rows give the same centres for any number of processes, to the bit,
        unless spherical; see ``clustering.shared``.

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
    Lloyd 1982; Arthur and Vassilvitskii, SODA 2007 (k-means++); Bahmani et al., VLDB 2012 (k-means||); Bradley
    and Fayyad, ICML 1998 (growing samples); Dhillon and Modha, Machine Learning 2001 (spherical); Sculley, WWW 2010
    (``partial_fit``).

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
        processes: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.spherical = spherical
        self.random_state = random_state
        self.backend = backend
        self.processes = processes

    def fit(self, X: Any, y: Any = None) -> KMeans:
        """Cluster the rows of X [N, D]; ``y`` is ignored."""

        def ready() -> tuple[int, int, float, Rows, np.random.Generator]:
            return (
                self._runs(),
                whole_number(self.max_iter, "max_iter"),
                self._tolerance(),
                self._read_fit(X),
                generator(self.random_state),
            )

        alike = {name: getattr(self, name) for name in ("n_clusters", "init", "n_init", "max_iter", "tol", "spherical")}
        runs, max_iter, tol, rows, rng = together(ready, self.processes, alike)
        if self.processes is not None:
            rows = share(rows, self.processes)
            rng = shared_seed(rng, rows)
        rows = self._metric_rows(rows)
        K = self._count_clusters(rows, rng)
        options: dict[str, Any] = {"metric": self._metric, "backend": self.backend}
        how: dict[str, Any] = options | {"tol": tol * rows.variance() if tol else 0.0, "max_iter": max_iter}
        if self.processes is not None:
            how["step"] = partial(shared_step, **options)
        self._keep_best(rows, K, rng, runs, **how)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> KMeans:
        """Update the centres with one batch X [n, D]: mini-batch k-means.

        ``c[k] += (x - c[k]) / count[k]`` for the rows x of cluster k, one after the other: with the assignments of the
        batch fixed first, that is the mean of all rows the centre ever got, updated in one go. The first batch must
        hold at least K rows and starts the centres as in ``fit``; after ``fit`` its centres go on. ``labels_`` and
        ``inertia_`` are those of the batch before the update.

        Reference: Sculley, *Web-scale k-means clustering*, WWW 2010.
        """
        if self.processes is not None:
            raise InputError(
                "partial_fit learns in one process and would give every process other centres; set processes=None."
            )
        return self._partial_fit(X)

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
