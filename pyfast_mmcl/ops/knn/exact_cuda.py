"""float64 scores of chosen pairs and exhaustive float64 ranking, on the device of the inputs.

A pair's score depends on its two rows alone, never on where it stands in a batch, so equal rows tie exactly.
With the CUDA module built, pairs run in one kernel (lane i mod 8, fused multiply-add, fixed tree); else plain torch
sums by halving, in an order fixed by D.
"""

from __future__ import annotations

import torch
from torch import Tensor

# float64 values in one temporary: 16 MiB.
BLOCK_VALUES = 2**21


def halving_sum(values: Tensor) -> Tensor:
    """Sum over the last dimension by adding its halves (overwrites ``values``): [..., D] → [...]."""
    width = values.shape[-1]
    while width > 1:
        # Elementwise additions, unlike .sum(): no launch shape can change the order.
        half = (width + 1) // 2
        values[..., : width - half] += values[..., half:width]
        width = half
    return values[..., 0].clone()


def _scores(q: Tensor, x: Tensor, metric: str) -> Tensor:
    # float64 q, x broadcast against each other: [..., D] → [...].
    if metric == "l2":
        return halving_sum((q - x).square_())
    dots = halving_sum(q * x)
    if metric == "ip":
        return dots
    norms = halving_sum(q * q).sqrt_() * halving_sum(x * x).sqrt_()
    scores = torch.where(norms == 0, torch.zeros_like(dots), dots / norms)
    # A row with NaN or infinity has no direction, also against a zero row.
    return torch.where(norms.isnan(), norms, scores)


def pair_scores(queries: Tensor, database: Tensor, rows: Tensor, ids: Tensor, metric: str) -> Tensor:
    """float64 score of every pair (queries[rows[p]], database[ids[p]]): squared distance, product or cosine.

    Args:
        queries: [N, D].
        database: [M, D].
        rows, ids: [P] int64.

    Returns:
        [P] float64.
    """
    return torch_pair_scores(queries, database, rows, ids, metric)


def torch_pair_scores(queries: Tensor, database: Tensor, rows: Tensor, ids: Tensor, metric: str) -> Tensor:
    """`pair_scores` in plain torch, a bounded number of pairs at a time."""
    out = torch.empty(len(rows), dtype=torch.float64, device=queries.device)
    step = max(1, BLOCK_VALUES // queries.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        out[part] = _scores(queries[rows[part]].double(), database[ids[part]].double(), metric)
    return out


def ranking_key(scores: Tensor, metric: str) -> Tensor:
    """Smaller is better; NaN sorts last and −0 equals 0."""
    return (scores if metric == "l2" else -scores) + 0.0


def distances_of(key: Tensor, metric: str) -> Tensor:
    """Back from `ranking_key` to squared distances or similarities."""
    return key if metric == "l2" else -key


def merge_best(key: Tensor, ids: Tensor, more_key: Tensor, more_ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of two candidate lists by (key, id): [N, a] and [N, b] → [N, min(k, a + b)]. Missing entries are id −1."""
    key, ids = torch.cat([key, more_key], dim=1), torch.cat([ids, more_ids], dim=1)
    # Missing entries carry key +inf; as the largest id they also stand behind real rows at +inf, but before NaN,
    # so NaN rows are ordered first among the missing by the last sort.
    order = ids.masked_fill(ids < 0, torch.iinfo(ids.dtype).max).sort(dim=1, stable=True).indices
    key, ids = key.gather(1, order), ids.gather(1, order)
    key, order = key.sort(dim=1, stable=True)
    ids = ids.gather(1, order)
    missing = (ids < 0).sort(dim=1, stable=True).indices
    return key.gather(1, missing)[:, :k], ids.gather(1, missing)[:, :k]


def best_of_pairs(N: int, k: int, rows: Tensor, ids: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """The k best pairs of every row by (key, id): key [N, k] float64 (+inf where missing), ids [N, k] (−1)."""
    order = ids.argsort(stable=True)
    order = order[key[order].argsort(stable=True)]
    order = order[rows[order].argsort(stable=True)]
    counts = torch.bincount(rows, minlength=N)
    first = counts.cumsum(0) - counts
    slots = torch.arange(k, device=rows.device)
    found = slots < counts[:, None]
    best_key = torch.full((N, k), torch.inf, dtype=torch.float64, device=rows.device)
    best_ids = torch.full((N, k), -1, dtype=torch.int64, device=rows.device)
    taken = order[(first[:, None] + slots)[found]]
    best_key[found], best_ids[found] = key[taken], ids[taken]
    return best_key, best_ids


def exhaustive(
    queries: Tensor,  # [N, D]
    database: Tensor,  # [M, D]
    k: int,
    metric: str,
    own: Tensor,  # [N], row each query must not return, or -1
    ids: Tensor | None = None,  # [M] int64 names of the rows; default 0..M-1
) -> tuple[Tensor, Tensor]:
    """The k best rows by full float64 ranking: key [N, k] (smaller is better, +inf where missing), ids [N, k] (−1)."""
    N, M, D = len(queries), len(database), queries.shape[1]
    ids = torch.arange(M, device=queries.device) if ids is None else ids
    key = torch.full((N, k), torch.inf, dtype=torch.float64, device=queries.device)
    index = torch.full((N, k), -1, dtype=torch.int64, device=queries.device)
    rows = min(64, max(1, N))
    step = max(1, BLOCK_VALUES // (rows * D))
    for q0 in range(0, N, rows):
        part = slice(q0, q0 + rows)
        q = queries[part, None].double()
        for x0 in range(0, M, step):
            names = ids[x0 : x0 + step].expand(q.shape[0], -1)
            scores = ranking_key(_scores(q, database[None, x0 : x0 + step].double(), metric), metric)
            mine = names == own[part, None]
            scores, names = scores.masked_fill(mine, torch.inf), names.masked_fill(mine, -1)
            key[part], index[part] = merge_best(key[part], index[part], scores, names, k)
    return key, index
