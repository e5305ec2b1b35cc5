"""The nearest centre of every row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._errors import InputError
from . import _checks as checks
from .search import knn


def nearest(x: Any, centers: Any, *, metric: str = "l2", backend: str = "auto") -> tuple[Any, Any]:
    """Exact nearest centre of every row: ``distance, label = ((x[:, None] - centers) ** 2).sum(-1).min(1)``.

    Args:
        x: rows [N, D], torch or NumPy; float32, float16, bfloat16 (float64 runs on the torch reference).
        centers: [K, D], K ≥ 1, same kind and device.
        metric: "l2" (squared distance), "ip" or "cosine" (similarity, the largest wins).
        backend: "auto" | "torch" | "native" | "triton".

    Returns:
        distances [N] float32 (float64 for float64 input), labels [N] int64; ties go to the smaller label.

    Raises:
        InputError: as `knn`, and when there is no centre.
    """
    if checks.as_rows(centers, "centers").shape[0] < 1:
        raise InputError("centers: expected at least one centre, got none.")
    distances, labels = knn(x, centers, 1, metric=metric, backend=backend)
    if isinstance(distances, np.ndarray):
        return distances.reshape(-1), labels.reshape(-1)
    return distances.flatten(), labels.flatten()
