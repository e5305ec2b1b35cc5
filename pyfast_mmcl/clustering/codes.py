"""K-means on codes, as a step of other methods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.init import initial_centers
from pyfast_mmcl.clustering.inputs import read_rows
from pyfast_mmcl.clustering.lloyd import Fit, lloyd
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.train.terms import NonFiniteError

_SEEDS = 2**62
DIVERGED = "training diverged: the network's answers are not finite; lower the learning rate or rescale the rows."


def kmeans_of(codes: Tensor, K: int, *, n_init: int = 20, spherical: bool = False, max_iter: int = 300) -> Fit:
    """The best of ``n_init`` runs of k-means on ``codes`` [N, d], as KMeans does them.

    Its seed is drawn from torch's generator, which an Engine sets before every hook: the place in the training decides.
    """
    rng = np.random.default_rng(int(torch.randint(_SEEDS, ())))
    metric = "cosine" if spherical else "l2"
    rows = read_rows(codes.detach().float())
    rows = rows.unit() if spherical else rows
    tol = 1e-4 * rows.variance()

    def run() -> Fit:
        centers = initial_centers(rows, K, "auto", rng, spherical=spherical, backend="auto")
        return lloyd(rows, centers, metric=metric, tol=tol, max_iter=max_iter)

    return min((run() for _ in range(n_init)), key=lambda fit: fit.inertia)


def rows_of(samples: Samples, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """All rows [N, …] of ``samples``, or their codes. Raises NonFiniteError for codes that are not finite."""
    if encode is None:
        return torch.cat([x for _, x in samples.blocks()])
    codes = torch.cat([encode(x) for _, x in samples.blocks()])
    if not bool(torch.isfinite(codes).all()):
        raise NonFiniteError(DIVERGED)
    return codes
