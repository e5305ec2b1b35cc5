"""`CentroidEstimator`: what estimators share whose clusters are centres, and whose rows belong to the nearest one."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.base import Estimator, generator
from pyfast_mmcl.clustering.distances import every_cost, nearest_cost
from pyfast_mmcl.clustering.init import initial_centers
from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.lloyd import block_step, centers_from_sums, lloyd


class CentroidEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """Centres [K, D] and the answers that follow from them: ``predict``, ``transform``, ``score``.

    A subclass has the parameters ``n_clusters``, ``init``, ``tol``, ``spherical``, ``random_state`` and ``backend``
    beside its own, and a ``fit`` that ends in ``_keep`` or ``_keep_best``.
    """

    init: Any
    tol: float
    spherical: bool
    random_state: Any
    backend: str
    n_steps_: int

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

    def _partial_fit(self, X: Any) -> Any:
        """Learn from one batch, the first of which starts the centres."""
        if hasattr(self, "cluster_centers_"):
            rows = self._metric_rows(self._read_new(X))
            centers, total = self._centers_for(rows), torch.as_tensor(self.cluster_counts_).cpu()
        else:
            rows, rng = self._metric_rows(self._read_fit(X)), generator(self.random_state)
            centers = self._start(rows, self._count_clusters(rows, rng), rng)
            self._means, total, self.n_steps_ = centers.double().cpu(), torch.zeros(len(centers), dtype=torch.int64), 0
        centers, total, labels, inertia = self._learn(rows, centers, total)
        self._keep(rows, centers, labels, total, inertia)
        return self

    def _learn(self, rows: Rows, centers: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Centres, rows behind each of them [K], labels and inertia of the batch: ``_means`` become the means of all
        rows the centres ever got. Reference: Sculley, WWW 2010, with the assignments of a batch fixed first."""
        sums, counts, labels, inertia = block_step(rows, centers, metric=self._metric, backend=self.backend)
        fresh, sums = counts.cpu(), sums.cpu()
        total = total + fresh
        # A centre that got no row yet keeps the row it started from.
        self._means = self._means + (sums - fresh[:, None] * self._means) / total.clamp_min(1)[:, None]
        means = self._means.to(rows.device)
        self.n_steps_ += 1
        return centers_from_sums(means, torch.ones_like(counts), centers, metric=self._metric), total, labels, inertia

    def _keep_best(self, rows: Rows, K: int, rng: np.random.Generator, runs: int, **how: Any) -> None:
        """Keep the best of some runs of ``lloyd`` from different starts; ``how`` are its arguments."""
        # min keeps the first of equals, so the choice does not depend on anything but the draws.
        best = min((lloyd(rows, self._start(rows, K, rng), **how) for _ in range(runs)), key=lambda run: run.inertia)
        self.n_iter_, self.inertia_history_, self.n_steps_ = best.n_iter, best.inertias, 0
        self._keep(rows, best.centers, best.labels, best.counts, best.inertia)
        means = best.sums / best.counts.clamp_min(1)[:, None]
        self._means = torch.where(best.counts[:, None] > 0, means, best.centers.double()).cpu()
        self._warn_empty(best.counts)

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
                stacklevel=4,
            )
