"""float64 scores of chosen pairs and exhaustive float64 ranking, on the device of the inputs.

A pair's score depends on its two rows alone, never on where it stands in a batch, so equal rows tie exactly.
With the CUDA module built, pairs run in one kernel (lane i mod 8, fused multiply-add, fixed tree); else plain torch
sums by halving, in an order fixed by D.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ... import _native

# float64 values in one temporary: 16 MiB.
BLOCK_VALUES = 2**21
# Pairs scored between two merges of an exhaustive ranking.
BLOCK_PAIRS = 2**18


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
    if queries.is_cuda and _native_usable(queries.device):
        return native_pair_scores(queries, database, rows, ids, metric)
    return torch_pair_scores(queries, database, rows, ids, metric)


def torch_pair_scores(queries: Tensor, database: Tensor, rows: Tensor, ids: Tensor, metric: str) -> Tensor:
    """`pair_scores` in plain torch, a bounded number of pairs at a time."""
    out = torch.empty(len(rows), dtype=torch.float64, device=queries.device)
    step = max(1, BLOCK_VALUES // queries.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        out[part] = _scores(queries[rows[part]].double(), database[ids[part]].double(), metric)
    return out


def native_pair_scores(queries: Tensor, database: Tensor, rows: Tensor, ids: Tensor, metric: str) -> Tensor:
    """`pair_scores` in the compiled CUDA kernel, on the current stream."""
    out = torch.empty(len(rows), dtype=torch.float64, device=queries.device)
    # float32 holds every half exactly; only float64 needs its own kernel.
    wide = torch.float64 if database.dtype == torch.float64 else torch.float32
    arrays = (queries.to(wide), database, rows.contiguous(), ids.contiguous(), out)
    stream = torch.cuda.current_stream(queries.device).cuda_stream
    _native.module().knn_rerank_cuda(*map(_native.capsule, arrays), ("l2", "ip", "cosine").index(metric), stream)
    return out


# Whether the compiled kernel has passed its self-check, per device.
_native_verdicts: dict[torch.device, bool] = {}


def _native_usable(device: torch.device) -> bool:
    if device not in _native_verdicts:
        usable = _native.info()["cuda"] and hasattr(_native.module(), "knn_rerank_cuda")
        if usable:
            reason = _native_self_check(device)
            if reason:
                warnings.warn(f"the CUDA re-rank kernel is not used on {device}: {reason}; torch is.", stacklevel=2)
            usable = not reason
        _native_verdicts[device] = usable
    return _native_verdicts[device]


def _native_self_check(device: torch.device) -> str:
    # Small integers have exact scores, so both ways must agree in every bit.
    cells = torch.arange(19 * 37, device=device)
    rows = ((cells * 7919) % 1009 % 9 - 4).float().view(19, 37)
    first, second = torch.cartesian_prod(torch.arange(19, device=device), torch.arange(19, device=device)).unbind(1)
    for metric in ("l2", "ip", "cosine"):
        try:
            scores = native_pair_scores(rows, rows, first, second, metric)
        except (ValueError, RuntimeError) as error:
            return str(error)
        if not torch.equal(scores, torch_pair_scores(rows, rows, first, second, metric)):
            return f"wrong {metric} scores on a small problem"
    return ""


def ranking_key(scores: Tensor, metric: str) -> Tensor:
    """Smaller is better; NaN sorts last and −0 equals 0."""
    return (scores if metric == "l2" else -scores) + 0.0


def distances_of(key: Tensor, metric: str) -> Tensor:
    """Back from `ranking_key` to squared distances or similarities."""
    return key if metric == "l2" else -key


def merge_best(key: Tensor, ids: Tensor, more_key: Tensor, more_ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of two lists by (key, id): [N, a] and [N, b] → [N, min(k, a + b)]; missing entries have id −1."""
    key, ids = torch.cat([key, more_key], dim=1), torch.cat([ids, more_ids], dim=1)
    # Three stable sorts: by id, then by key (NaN last), then missing entries behind everything.
    ids, order = ids.sort(dim=1, stable=True)
    key, place = key.gather(1, order).sort(dim=1, stable=True)
    ids = ids.gather(1, place)
    order = (ids < 0).sort(dim=1, stable=True).indices
    return key.gather(1, order)[:, :k], ids.gather(1, order)[:, :k]


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
    N, M = len(queries), len(database)
    ids = torch.arange(M, device=queries.device) if ids is None else ids
    key = torch.full((N, k), torch.inf, dtype=torch.float64, device=queries.device)
    index = torch.full((N, k), -1, dtype=torch.int64, device=queries.device)
    # Through the same pair scores as the survivors of a scan: both ways give a pair the same bits.
    block = min(64, max(1, N))
    step = max(1, BLOCK_PAIRS // block)
    for q0 in range(0, N, block):
        part = torch.arange(q0, min(q0 + block, N), device=queries.device)
        for x0 in range(0, M, step):
            columns = torch.arange(x0, min(x0 + step, M), device=queries.device)
            pairs = torch.cartesian_prod(part, columns)
            scores = pair_scores(queries, database, pairs[:, 0], pairs[:, 1], metric).view(len(part), len(columns))
            names = ids[columns].expand(len(part), -1)
            mine = names == own[part, None]
            scores = ranking_key(scores, metric).masked_fill(mine, torch.inf)
            key[part], index[part] = merge_best(key[part], index[part], scores, names.masked_fill(mine, -1), k)
    return key, index
