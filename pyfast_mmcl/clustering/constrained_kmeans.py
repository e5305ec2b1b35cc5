"""Constrained k-means: rows that must, and rows that must not, share a cluster."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl.clustering.base import generator, whole_number
from pyfast_mmcl.clustering.centroid import CentroidEstimator
from pyfast_mmcl.clustering.distances import every_cost, nearest_cost
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.links import Links
from pyfast_mmcl.clustering.lloyd import Sums, mean_update
from pyfast_mmcl.clustering.sizes import label_sums
from pyfast_mmcl.train.registry import estimator


@estimator(
    family="baseline", paper="Wagstaff et al., Constrained k-means clustering with background knowledge, ICML 2001"
)
class ConstrainedKMeans(CentroidEstimator):
    """K-means that keeps linked rows together (must-links) or apart (cannot-links): COP-KMeans.

    ``minimise ((x - centers[labels]) ** 2).sum()`` where ``labels[i] == labels[j]`` (must) or ``!=`` (cannot)

    Parameters
    ----------
    n_clusters : int or str, default 8
        K, or a criterion to find it by; see ``clustering.how_many``.
    must_link, cannot_link : int array [P, 2] or None, default None
        Pairs of row numbers of X. Must-links tie chains of rows together.
    init, n_init, tol, spherical, random_state, backend
        As for KMeans; ``n_init`` is a whole number, default 1.
    max_iter : int, default 300
        Most iterations of one run.

    Attributes
    ----------
    cluster_centers_, labels_, inertia_, n_iter_, inertia_history_, cluster_counts_, n_clusters_, n_features_in_
        As for KMeans, the labels in keeping with every link.

    Raises
    ------
    InputError
        Bad parameters or input, links that contradict each other, or cannot-links for which no K clusters were found
        (to find them is as hard as colouring a graph; the search is greedy).

    Notes
    -----
    The paper assigns rows one after the other and gives up at the first that has no cluster left; here tied rows choose
    as one, and those with the fewest clusters left go first. ``predict`` gives new rows to their nearest centre and
    knows no links. Bounds on sizes: ``BalancedKMeans``.

    References
    ----------
    Wagstaff, Cardie, Rogers and Schrödl, ICML 2001; Brélaz, Communications of the ACM 1979 (order of the choices).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfast_mmcl.clustering import ConstrainedKMeans
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> labels = ConstrainedKMeans(2, must_link=[(0, 3)], random_state=0).fit(X).labels_
    >>> bool(labels[0] == labels[3])
    True
    """

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        must_link: Any = None,
        cannot_link: Any = None,
        init: Any = "auto",
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        spherical: bool = False,
        random_state: Any = None,
        backend: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.must_link = must_link
        self.cannot_link = cannot_link
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.spherical = spherical
        self.random_state = random_state
        self.backend = backend

    def fit(self, X: Any, y: Any = None) -> ConstrainedKMeans:
        """Cluster the rows of X [N, D]; ``y`` is ignored."""
        runs, max_iter, tol = (
            whole_number(self.n_init, "n_init"),
            whole_number(self.max_iter, "max_iter"),
            self._tolerance(),
        )
        rows, rng = self._metric_rows(self._read_fit(X)), generator(self.random_state)
        links = Links(self.must_link, self.cannot_link, len(rows))
        K = self._count_clusters(rows, rng)
        how: dict[str, Any] = {
            "step": partial(_step, links=links, metric=self._metric, backend=self.backend),
            "update": partial(mean_update, metric=self._metric, backend=self.backend, tied=links.tied),
            "tol": tol * rows.variance(),
            "max_iter": max_iter,
        }
        self._keep_best(rows, K, rng, runs, **how)
        return self


def _step(rows: Rows, centers: Tensor, *, links: Links, metric: str, backend: str) -> Sums:
    _, labels = nearest_cost(rows, centers, metric=metric, backend=backend)
    if len(links):
        linked = Rows(rows.take(links.rows), rows.center_dtype)
        labels[links.rows] = links.choose(every_cost(linked, centers, metric=metric, backend=backend))
    sums, counts, cost = label_sums(rows, centers, labels, metric=metric)
    return sums, counts, torch.from_numpy(labels).to(rows.device), cost
