"""One step of Lloyd's k-means."""

from __future__ import annotations

from typing import Any

from . import _checks as checks
from .nearest import nearest
from .reference import accumulate


def lloyd_step(x: Any, centers: Any, *, metric: str = "l2", backend: str = "auto") -> tuple[Any, Any, Any, float]:
    """Assign every row to its nearest centre and sum the rows of each: sums [K, D], counts [K], labels [N], inertia."""
    import torch

    numpy = not isinstance(x, torch.Tensor)
    rows = checks.as_rows(x, "x")
    distances, labels = nearest(rows, checks.as_tensor(centers, "centers"), metric=metric, backend=backend)
    sums, counts = accumulate(rows, labels, centers.shape[0])
    inertia = float(distances.double().sum() if metric == "l2" else (1 - distances.double()).sum())
    return checks.like(sums, numpy), checks.like(counts, numpy), checks.like(labels, numpy), inertia
