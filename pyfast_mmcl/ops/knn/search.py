"""`knn`: the exact k nearest rows of every query."""

from __future__ import annotations

from typing import Any

import torch

from . import _checks as checks
from .packed import PackedRows
from .reference import knn_reference


def knn(
    queries: Any,
    database: Any,
    k: int,
    *,
    metric: str = "l2",
    groups: Any = None,
    exclude_self: bool = False,
    backend: str = "auto",
    check_finite: bool = False,
) -> tuple[Any, Any]:
    """Exact k nearest rows [N, k]: ``d = ((q[:, None] - x) ** 2).sum(-1); d.topk(k, largest=False)``."""
    numpy = not isinstance(queries, torch.Tensor)
    q = checks.as_rows(queries, "queries")
    x = database.rows if isinstance(database, PackedRows) else checks.as_rows(database, "database")
    checks.check_pair(q, x, "queries", "database")
    k = checks.check_k(k)
    distances, indices = knn_reference(q, x, k, checks.check_metric(metric), exclude_self)
    distances = distances.to(q.dtype if q.dtype == torch.float64 else torch.float32)
    return checks.like(distances, numpy), checks.like(indices, numpy)
