"""K-means on codes, as a step of other methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.init import initial_centers
from pyfast_mmcl.clustering.inputs import read_rows
from pyfast_mmcl.clustering.lloyd import Fit, block_step, lloyd, mean_update
from pyfast_mmcl.clustering.samples import Samples

_SEEDS = 2**62


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
        return lloyd(
            rows,
            centers,
            step=partial(block_step, metric=metric),
            update=partial(mean_update, metric=metric),
            tol=tol,
            max_iter=max_iter,
        )

    return min((run() for _ in range(n_init)), key=lambda fit: fit.inertia)


def rows_of(samples: Samples, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """All rows [N, …] of ``samples``, or their codes."""
    return torch.cat([x if encode is None else encode(x) for _, x in samples.blocks()])
