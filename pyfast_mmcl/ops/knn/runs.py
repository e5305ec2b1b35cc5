"""`KMeansRuns`: whole runs of k-means over rows in memory, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import _native
from . import _native_knn

_MOST_CENTERS = 512  # beyond it the bfloat16 products of `lloyd_step` cost about what bounds save
_MOST_BOUNDS = 2**25  # N · K, of four bytes each
# Squared norms per row between which neither squares nor their rounding leave float32.
_LEAST_POWER, _MOST_POWER = 1e-20, 1e30
_SHARED_FROM = 2**25  # N · K · D below which a step is over before a second thread is awake
_MOST_OFFSET = 64.0  # mean square of the rows over that of their distances to the mean

OUT_OF_STEPS, LABELS_REPEAT, CENTERS_REST, EMPTY_CLUSTER = range(4)


class Assigned(NamedTuple):
    """The last assignment of a run."""

    sums: Tensor  # [K, D] float64
    counts: Tensor  # [K]
    labels: Tensor  # [N]
    costs: Tensor  # [N] float64, squared distances


class KMeansRuns:
    """Lloyd's runs over the same rows ``x`` [N, D]: the labels of `lloyd_step`, at a fraction of its distances.

    Squared norms are taken once for all runs. Within a run every row keeps bounds on its distances to all centres, and
    a step looks at the rows whose label might change; sums follow the labels. Labels are exact: centres that float32
    cannot tell apart are ranked in float64, ties by smaller label. Equal bits for any number of threads and on every
    instruction set.

    Args:
        x: float32 rows in the memory of the CPU, whose features are adjacent. Not copied: it must not change.

    Reference: Elkan, *Using the triangle inequality to accelerate k-means*, ICML 2003.
    """

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._runs = _native.module().Runs(_native.capsule(x), self._threads(1))

    @staticmethod
    def usable(x: Tensor) -> bool:
        """Whether ``x`` is of the kind compiled runs take."""
        fits = x.dtype == torch.float32 and x.numel() > 0 and (x.stride(1) == 1 or x.shape[1] == 1)
        return fits and _native_knn.usable(x)[0]

    @staticmethod
    def sized(N: int, K: int) -> bool:
        """Whether runs of this size are faster than steps of `lloyd_step`, for rows that are `centred`."""
        return K <= _MOST_CENTERS and N * K <= _MOST_BOUNDS

    @property
    def pays(self) -> bool:
        """Whether float32 products tell enough about distances to be worth their bounds."""
        return self.centred and self.squares_fit

    @property
    def squares_fit(self) -> bool:
        """Whether squared distances stay within float32."""
        return bool(_LEAST_POWER <= self._runs.power / len(self._x) <= _MOST_POWER)

    @property
    def centred(self) -> bool:
        """Whether the rows lie about the origin, so that little cancels where products tell distances."""
        return bool(self._runs.power <= _MOST_OFFSET * self._runs.scatter)

    def reach(self, centers: Tensor) -> bool:
        """Whether squared distances to ``centers`` [K, D], which the caller may have brought, stay within float32."""
        farthest = float(np.square(centers.double().numpy()).sum(axis=1).max())
        return farthest <= max(_MOST_POWER, self._runs.power)

    def variance(self) -> float:
        """Mean over features of the variance over rows."""
        return float(self._runs.scatter / self._x.numel())

    def draw(self, K: int, uniforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Rows int64 [≤ K] drawn by greedy k-means++; fewer where all rows coincide with drawn ones.

        Args:
            uniforms: float64 [1 + (K − 1)·T] in [0, 1), for T candidates per centre.
            weights: float64 [N].

        Reference: Arthur and Vassilvitskii, *k-means++*, SODA 2007.
        """
        chosen = torch.empty(K, dtype=torch.int64)
        trials = (len(uniforms) - 1) // (K - 1) if K > 1 else 1
        known = None if weights is None else _native.capsule(weights)
        drawn = self._runs.draw(
            known, _native.capsule(uniforms), trials, _native.capsule(chosen), self._threads(trials)
        )
        return chosen[:drawn]

    def advance(self, centers: Tensor, *, tol: float, steps: int, fresh: bool) -> tuple[int, list[float]]:
        """Move ``centers`` [K, D] float32, in place, by at most ``steps`` of Lloyd's; why that ended, and inertias.

        Ends: LABELS_REPEAT and EMPTY_CLUSTER right after an assignment; CENTERS_REST (moved by at most ``tol``,
        squared, all together) and OUT_OF_STEPS after one more, to the last centres. Every assignment has its inertia.

        Args:
            fresh: begin a run, instead of going on from the last labels.

        Signals are heeded between steps: Ctrl-C leaves the centres of the last one.
        """
        end, inertias = self._runs.advance(_native.capsule(centers), fresh, tol, steps, self._threads(len(centers)))
        return end, inertias

    def assigned(self, K: int) -> Assigned:
        """The last assignment."""
        N, D = self._x.shape
        out = Assigned(
            torch.empty(K, D, dtype=torch.float64),
            torch.empty(K, dtype=torch.int64),
            torch.empty(N, dtype=torch.int64),
            torch.empty(N, dtype=torch.float64),
        )
        self._runs.give(*(_native.capsule(part) for part in out), self._threads(1))
        return out

    def _threads(self, K: int) -> int:
        return torch.get_num_threads() if self._x.numel() * K >= _SHARED_FROM else 1
