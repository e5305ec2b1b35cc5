"""The truth: plain torch in float64, direct differences and products, ties by smaller index.

Every fast path is tested against these functions, and they are the fallback where nothing is compiled.
Memory is bounded by blocks; the N×M matrix is never formed.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK_ROWS = 4096  # database rows scored at a time
_BLOCK_VALUES = 2**21  # float64 values in one temporary: 16 MiB


def score_block(q: Tensor, x: Tensor, metric: str) -> Tensor:
    """Ranking key of every pair, smaller is better: float64 [n, m] from q [n, D] and x [m, D] in float64.

    l2 → ((q[:, None] - x) ** 2).sum(-1);  ip → -(q[:, None] * x).sum(-1);  cosine → ip over the norms' product.
    """
    n, m, d = q.shape[0], x.shape[0], x.shape[1]
    out = q.new_empty(n, m)
    rows = max(1, _BLOCK_VALUES // max(1, m * d))
    for start in range(0, n, rows):
        part = q[start : start + rows, None]
        # Elementwise, not a matrix product: every pair is summed in the same order, so equal rows get equal scores.
        out[start : start + rows] = (part - x).square().sum(-1) if metric == "l2" else -(part * x).sum(-1)
    if metric == "cosine":
        norms = q.norm(dim=1)[:, None] * x.norm(dim=1)
        out = torch.where(norms == 0, torch.zeros_like(out), out / norms)
        out = torch.where(norms.isnan(), norms, out)  # a NaN row stays NaN even against a zero row
    return out


def knn_reference(
    queries: Tensor,  # [N, D]
    database: Tensor,  # [M, D]
    k: int,
    metric: str = "l2",
    exclude_self: bool = False,
) -> tuple[Tensor, Tensor]:
    """Distances float64 [N, k] and indices int64 [N, k] by full float64 ranking; NaN scores rank last."""
    n, m = queries.shape[0], database.shape[0]
    key = queries.new_full((n, k), torch.inf, dtype=torch.float64)
    index = torch.full((n, k), -1, dtype=torch.int64, device=queries.device)
    for q0 in range(0, n, 512):
        rows = slice(q0, min(q0 + 512, n))
        q = queries[rows].double()
        best = q.new_empty(q.shape[0], 0)
        ids = index.new_empty(q.shape[0], 0)
        for x0 in range(0, m, _BLOCK_ROWS):
            x = database[x0 : x0 + _BLOCK_ROWS].double()
            score = score_block(q, x, metric)
            column = torch.arange(x0, x0 + x.shape[0], device=q.device).expand(q.shape[0], -1)
            best, ids = _merge(best, ids, score, column, k + exclude_self)
        if exclude_self:
            best, ids = _drop_self(best, ids, torch.arange(m, device=q.device)[rows])
        width = min(k, best.shape[1])
        key[rows, :width], index[rows, :width] = best[:, :width], ids[:, :width]
    distances = key if metric == "l2" else -key
    return distances, index


def _merge(best: Tensor, ids: Tensor, score: Tensor, column: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # A stable sort keeps the earlier, smaller index on ties and puts NaN last.
    score, order = torch.cat([best, score], dim=1).sort(dim=1, stable=True)
    return score[:, :k], torch.cat([ids, column], dim=1).gather(1, order[:, :k])


def _drop_self(best: Tensor, ids: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    # A stable sort on "is it me" moves the own row last and keeps the order of the others.
    mine = ids == own[:, None]
    order = mine.long().sort(dim=1, stable=True).indices
    keep = ids.shape[1] - 1 if bool(mine.any(dim=1).all()) else ids.shape[1]
    best = best.masked_fill(mine, torch.inf).gather(1, order)
    ids = ids.masked_fill(mine, -1).gather(1, order)
    return best[:, :keep], ids[:, :keep]


def nearest_reference(x: Tensor, centers: Tensor, metric: str = "l2") -> tuple[Tensor, Tensor]:
    """Distances float64 [N] and labels int64 [N] of the nearest centre."""
    distances, labels = knn_reference(x, centers, 1, metric)
    return distances[:, 0], labels[:, 0]


def accumulate(x: Tensor, labels: Tensor, clusters: int, unit: bool = False) -> tuple[Tensor, Tensor]:
    """Sums float64 [K, D] and counts int64 [K] of the rows of each cluster; ``unit`` divides rows by their norm.

    Rows are added in order, one thread: the sums do not depend on the number of threads.
    """
    sums = torch.zeros(clusters, x.shape[1], dtype=torch.float64, device=x.device)
    counts = torch.bincount(labels, minlength=clusters)
    for start in range(0, x.shape[0], 65536):
        part = x[start : start + 65536].double()
        if unit:
            norm = part.norm(dim=1, keepdim=True)
            part = torch.where(norm > 0, part / norm, torch.zeros_like(part))
        names = labels[start : start + 65536]
        if x.is_cuda:
            sums.index_put_((names,), part, accumulate=True)  # sorted; index_add_ would add with atomics, in any order
        else:
            sums.index_add_(0, names, part)
    return sums, counts
