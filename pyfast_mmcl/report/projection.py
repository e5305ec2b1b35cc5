"""Rows in the plane: the two main directions, or scikit-learn's t-SNE, on a sample."""

from __future__ import annotations

import numpy as np
import torch

from .._errors import InputError, unknown_name
from ..train.isolate import isolated

PROJECTIONS = ("pca", "tsne", "none")
_TINY = 1e-12  # share of the largest variance below which there is none
_LEAST = 4  # rows for t-SNE, whose perplexity must be below their number


def project(points: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """Places [S, 2] float32 of points [S, D].

    "pca": ``(x − mean) @ V``, V the two directions of most variance, each with its largest entry positive.
    "tsne": scikit-learn's TSNE from the main directions, perplexity 30 or a third of the rows.

    Raises InputError for another kind, or for t-SNE of fewer than four rows.
    """
    if kind not in PROJECTIONS[:2]:
        raise unknown_name("projection", kind, PROJECTIONS[:2])
    plane = main_plane(points)
    if kind == "pca":
        return plane
    if len(points) < _LEAST:
        raise InputError(f"projection: t-SNE needs at least {_LEAST} rows, got {len(points)}; choose pca.")
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    spread = float(plane[:, 0].std())
    start = plane / spread * 1e-4 if spread > 0 else plane  # as scikit-learn's init="pca"
    perplexity = min(30.0, (len(points) - 1) / 3)
    found = TSNE(perplexity=perplexity, init=start, random_state=seed, learning_rate="auto", n_jobs=1)
    with threadpool_limits(1):  # its sums depend on the number of threads
        return found.fit_transform(points.astype(np.float32)).astype(np.float32)


def main_plane(points: np.ndarray) -> np.ndarray:
    """The two main components [S, 2] float32 of points [S, D], worked out in float64; 0 where there is no spread."""
    x = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64))
    x = x - x.mean(0)
    with isolated(torch.device("cpu"), 1):
        if x.shape[1] <= len(x):
            directions = torch.linalg.eigh(x.mT @ x)[1][:, -2:].flip(1)
        else:
            # Fewer rows than features: the directions are those of the rows' products.
            values, vectors = torch.linalg.eigh(x @ x.mT)
            scale = torch.where(values > _TINY * values[-1], values.rsqrt(), 0.0)
            directions = x.mT @ (vectors * scale)[:, -2:].flip(1)
        signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        places = x @ (directions * signs)
    wide = torch.zeros(len(x), 2, dtype=torch.float64)
    wide[:, : places.shape[1]] = places[:, :2]
    return wide.float().numpy()
