"""The silhouette: how much nearer rows lie to their own cluster than to the next, exactly or on a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.metrics.clustering import label_codes

METRICS = ("euclidean", "cosine")
_BLOCK_BYTES = 4 * 2**20  # of one block of distances


def silhouette(X: Any, labels: Any, *, metric: str = "euclidean", sample: int | None = 10_000, seed: int = 0) -> float:
    """Mean over rows of ``s = (b − a) / max(a, b)``, in [−1, 1]; larger is better.

    ``a = mean distance to the other rows of the own cluster``; ``b = min over other clusters of the mean distance``;
    ``s = 0`` for the only row of a cluster.

    Args:
        X: [N, D] numbers: NumPy array, memory map or torch tensor.
        labels: [N] clusters.
        metric: "euclidean", or "cosine" for 1 − cos; a zero row is 1 away from every other.
        sample: at most so many rows, drawn without replacement, are looked at, and they stand for all: O(sample² · D)
            operations and blocks of 4 MiB. None looks at all rows.
        seed: of the draw; the same for the same N, whatever the labels.

    Returns:
        A float, worked out in float64; clusters that are not drawn do not count.

    Raises:
        InputError: fewer than two clusters (among the rows drawn), rows and labels of different lengths, non-finite
            rows, an unknown metric.

    Reference: Rousseeuw, *Silhouettes*, Journal of Computational and Applied Mathematics 1987.
    """
    _, values = silhouette_of_rows(X, labels, metric=metric, sample=sample, seed=seed)
    return float(values.mean())


def silhouette_of_rows(
    X: Any, labels: Any, *, metric: str = "euclidean", sample: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The rows looked at, int64 [S] ascending, and ``s`` of each, float64 [S]; arguments as :func:`silhouette`."""
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    codes = label_codes(labels, "labels")
    if getattr(X, "ndim", 0) != 2 or len(X) != len(codes):
        shape = tuple(getattr(X, "shape", ()))
        raise InputError(f"X must be rows [{len(codes)}, D], one per label, got shape {shape}; pass an array.")
    rows = sample_rows(len(codes), sample, seed)
    x = _prepared(X, rows, metric)
    found, codes = np.unique(codes[rows], return_inverse=True)
    if len(found) < 2:
        raise InputError(f"silhouette needs rows of at least 2 clusters, got {len(found)} among {len(rows)} rows.")
    # Rows of a cluster stand together, so that sums over clusters are sums over stretches.
    order = np.argsort(codes, kind="stable")
    values = np.empty(len(rows))
    values[order] = _values(x[torch.from_numpy(order)], codes[order], metric)
    return rows, values


def silhouette_of_distances(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of n rows with ``distances`` float64 [n, n] and ``labels`` int [n]; −1 for a single cluster.

    For many labels of the same rows: the distances are worked out once. Reference as :func:`silhouette`.
    """
    found, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(found) < 2:
        return -1.0
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    order = np.argsort(codes, kind="stable")
    return float(_of_distances(distances[:, order], codes, counts, starts).mean())


def sample_rows(N: int, sample: int | None, seed: int) -> np.ndarray:
    """Ascending numbers of ``sample`` of N rows, drawn without replacement; all of them where there are no more."""
    if sample is None or N <= whole_number("sample", sample):
        return np.arange(N)
    return np.sort(np.random.default_rng(seed).choice(N, sample, replace=False))


def _prepared(X: Any, rows: np.ndarray, metric: str) -> Tensor:
    """The rows in float64: unit rows for cosine, else shifted to mean 0 against cancellation."""
    picked = X[torch.from_numpy(rows).to(X.device)] if isinstance(X, Tensor) else torch.as_tensor(np.asarray(X[rows]))
    x = picked.detach().cpu().double()
    if not bool(torch.isfinite(x).all()):
        raise InputError("X must be finite, got NaN or inf; drop or repair such rows.")
    if metric == "cosine":
        x = x / x.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.nn.functional.normalize(x, dim=1)
    return x - x.mean(0)


def _values(x: Tensor, codes: np.ndarray, metric: str) -> np.ndarray:
    """``s`` of rows [S, D] in the order of their clusters ``codes`` [S] = 0 … K−1."""
    counts = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    step = max(1, _BLOCK_BYTES // (8 * len(x)))
    square, parts = x.square().sum(1), []
    for begin in range(0, len(x), step):
        rows = np.arange(begin, min(begin + step, len(x)))
        parts.append(_of_distances(_distances(x, square, rows, metric).numpy(), codes[rows], counts, starts))
    return np.concatenate(parts)


def _of_distances(distances: np.ndarray, own: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """``s`` of rows of the clusters ``own`` [b] by their ``distances`` [b, S] to all rows, cluster by cluster.

    ``counts`` [K] rows of each cluster begin at the columns ``starts`` [K]. Sums are taken in the order of the columns,
    the same for any number of threads.
    """
    sums, place = np.add.reduceat(distances, starts, axis=1), np.arange(len(own))  # sums [b, K]
    a = sums[place, own] / np.maximum(counts[own] - 1, 1)
    means = sums / counts
    means[place, own] = np.inf
    b = means.min(1)
    largest = np.maximum(a, b)
    return np.where((counts[own] == 1) | (largest == 0), 0.0, (b - a) / np.where(largest == 0, 1.0, largest))


def _distances(x: Tensor, square: Tensor, rows: np.ndarray, metric: str) -> Tensor:
    """Distances [b, S] of some rows to all, exactly 0 to themselves; ``square`` [S] are the squared norms."""
    some = x[rows[0] : rows[-1] + 1]
    distance = some @ x.mT
    # In place: most of the time goes into moving these blocks, not into the products.
    if metric == "cosine":
        distance.neg_().add_(1).clamp_min_(0)
    else:
        distance.mul_(-2).add_(square).add_(square[rows][:, None]).clamp_min_(0).sqrt_()
    distance[torch.arange(len(rows)), torch.from_numpy(rows)] = 0
    return distance
