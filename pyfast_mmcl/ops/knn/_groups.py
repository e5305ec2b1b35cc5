"""Search inside groups: a query sees only the rows that carry its own group number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._errors import InputError
from . import _dispatch, _native_knn

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def read_groups(groups: Any, n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Group numbers of queries [N] and database rows [M] from a pair, or from one vector when both are the same."""
    pair = groups if isinstance(groups, (tuple, list)) and len(groups) == 2 else (groups, groups)
    out = []
    for values, size, side in zip(pair, (n, m), ("queries", "database"), strict=True):
        g = values if isinstance(values, Tensor) else np.asarray(values)
        integers = g.dtype in INTEGERS if isinstance(g, Tensor) else g.dtype.kind in "iu"
        if not integers or tuple(g.shape) != (size,):
            raise InputError(
                f"groups: expected one integer per row of {side}, shape [{size}], got {g.dtype} {list(g.shape)}; "
                "pass (query_groups, database_groups) when the two sides differ."
            )
        out.append(torch.as_tensor(g).long().to(device))
    return out[0], out[1]


def knn_in_groups(
    backend: str,
    queries: Tensor,
    database: Tensor,
    k: int,
    metric: str,
    exclude_self: bool,
    query_groups: Tensor,  # [N]
    database_groups: Tensor,  # [M]
) -> tuple[Tensor, Tensor]:
    """As `knn`, one search per group; queries of a group without rows get padding."""
    n = queries.shape[0]
    pad = torch.inf if metric == "l2" else -torch.inf
    dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
    distances = queries.new_full((n, k), pad, dtype=dtype)
    indices = torch.full((n, k), -1, dtype=torch.int64, device=queries.device)
    q_order, q_starts = _sorted_groups(query_groups)
    x_order, x_starts = _sorted_groups(database_groups)
    for group, rows in q_starts.items():
        if group not in x_starts:
            continue
        q_ids, x_ids = q_order[rows], x_order[x_starts[group]]
        if backend == "native":
            _native_knn.search(queries, database, k, metric, exclude_self, q_ids, x_ids, (distances, indices))
        else:
            distances[q_ids], indices[q_ids] = _subset(
                backend, queries, database, k, metric, exclude_self, q_ids, x_ids
            )
    return distances, indices


def _sorted_groups(groups: Tensor) -> tuple[Tensor, dict[int, slice]]:
    """Row numbers sorted by group (ascending inside a group) and the slice of each group."""
    values, order = groups.sort(stable=True)
    names, counts = values.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0).tolist()
    starts = [0, *ends][:-1]
    return order, {g: slice(a, b) for g, a, b in zip(names.tolist(), starts, ends, strict=True)}


def _subset(
    backend: str,
    queries: Tensor,
    database: Tensor,
    k: int,
    metric: str,
    exclude_self: bool,
    q_ids: Tensor,
    x_ids: Tensor,
) -> tuple[Tensor, Tensor]:
    """One group by gathering its rows; own rows are found by number, since both sides may list them differently."""
    d, i = _dispatch.run(backend, queries[q_ids], database[x_ids], k + exclude_self, metric)
    i = torch.where(i >= 0, x_ids[i.clamp_min(0)], i)
    if not exclude_self:
        return d, i
    mine = (i == q_ids[:, None]).long()
    mine[:, -1] += 1 - mine.sum(1)  # own row absent (a NaN row, say): drop the last
    order = mine.sort(dim=1, stable=True).indices[:, :k]
    return d.gather(1, order), i.gather(1, order)
