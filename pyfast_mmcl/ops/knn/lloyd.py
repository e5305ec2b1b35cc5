"""One step of Lloyd's k-means: exact assignment and the sums of every cluster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, unknown_name
from . import _checks as checks
from . import _dispatch, _native_knn
from .reference import accumulate, knn_reference

METRICS = ("l2", "cosine")


@torch.compiler.disable
def lloyd_step(x: Any, centers: Any, *, metric: str = "l2", backend: str = "auto") -> tuple[Any, Any, Any, float]:
    """Assign every row to its nearest centre and sum the rows of each cluster; the new centres are sums / counts.

    ``labels = ((x[:, None] - centers) ** 2).sum(-1).argmin(1); sums = one_hot(labels).T @ x``
    metric="cosine" (spherical k-means): ``labels = (unit(x) @ unit(centers).T).argmax(1)``, sums of unit rows.

    Args:
        x: rows [N, D], torch or NumPy (a memory map is streamed); float32, float16, bfloat16, float64 (by torch).
        centers: [K, D], K ≥ 1, same kind and device.
        metric: "l2" | "cosine".
        backend: "auto" | "torch" | "native" | "triton".

    Returns:
        sums [K, D] float64, added in row order, so that the result does not depend on the number of threads;
        counts [K] int64; labels [N] int64, ties to the smaller label;
        inertia: sum over the rows of the squared distance, or of 1 − cosine similarity. A row with NaN gets label 0
        and makes the inertia NaN.

    Raises:
        InputError: as `knn`; no centre; unknown metric.

    Reference: Lloyd, Least squares quantization in PCM, IEEE TIT 1982; spherical: Dhillon & Modha, Mach. Learn. 2001.
    """
    rows, c = checks.as_rows(x, "x"), checks.as_rows(centers, "centers")
    checks.check_pair(rows, c, "x", "centers")
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if c.shape[0] < 1:
        raise InputError("centers: expected at least one centre, got none.")
    sums, counts, labels, costs = _step(_dispatch.backend_for("lloyd_step", backend, rows, c), rows, c, metric)
    numpy = not isinstance(x, Tensor)
    return checks.like(sums, numpy), checks.like(counts, numpy), checks.like(labels, numpy), _total(costs)


def _total(costs: Tensor) -> float:
    # torch splits a sum over its threads, NumPy does not: the last bits must not depend on their number.
    return float(costs.numpy().sum()) if costs.device.type == "cpu" else float(costs.sum())


def _step(backend: str, x: Tensor, centers: Tensor, metric: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if backend == "native":
        return _native_knn.lloyd(x, centers, metric)
    if backend == "triton":
        from .search_triton import lloyd_step_triton

        return lloyd_step_triton(x, centers, metric=metric)
    distances, indices = knn_reference(x, centers, 1, metric)
    key, labels = distances[:, 0], indices[:, 0]
    costs = key if metric == "l2" else 1 - key
    sums, counts = accumulate(x, labels, centers.shape[0], unit=metric == "cosine")
    return sums, counts, labels, costs
