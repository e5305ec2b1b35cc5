"""Costs of rows against centres, through the exact ops: squared distance for l2, 1 − similarity for cosine.

On unit rows and centres the second is half the first, so both behave as a squared distance.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.ops.knn import knn, nearest


def nearest_cost(rows: Rows, centers: Tensor, *, metric: str, backend: str) -> tuple[np.ndarray, np.ndarray]:
    """Cost float64 [N] of the nearest centre and its label int64 [N]."""
    cost, labels = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
    for part, block in rows.blocks():
        distance, label = nearest(block, centers, metric=metric, backend=backend)
        cost[part], labels[part] = _as_cost(distance, metric), label.cpu().numpy()
    return cost, labels


def every_cost(rows: Rows, centers: Tensor, *, metric: str, backend: str) -> np.ndarray:
    """Cost float64 [N, K] against every centre."""
    K = len(centers)
    cost = np.empty((len(rows), K))
    for part, block in rows.blocks():
        ranked, index = knn(block, centers, K, metric=metric, backend=backend)
        in_order = torch.empty_like(ranked).scatter_(1, index, ranked)
        cost[part] = _as_cost(in_order, metric)
    return cost


def _as_cost(distance: Tensor, metric: str) -> np.ndarray:
    value = distance.double().cpu().numpy()
    # A similarity may round to just above 1.
    return value if metric == "l2" else np.maximum(1.0 - value, 0.0)
