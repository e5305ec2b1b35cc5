"""The search behind ``clustering.neighbors``: the rows of a table against themselves, part by part.

The table is cut into banks of bounded size, packed one after the other; every bank answers all rows, block by block,
and the answers are merged. Memory beyond the table: one bank and the answers, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyfast_mmcl.ops.knn import PackedRows, knn

_BANK_BYTES = 2**30  # of the rows of one bank, as float32
_BLOCK_BYTES = 2**26  # of a block of queries, as float32
_EXACT_VALUES = 2**21  # float64 values in one temporary: 16 MiB


@dataclass(frozen=True)
class Table:
    """N rows of D numbers: ``part(start, stop)`` and ``pick(index)`` give rows [n, D], ready for ``knn``."""

    N: int
    D: int
    device: torch.device
    part: Callable[[int, int], Tensor]
    pick: Callable[[Tensor], Tensor]

    def parts(self, limit: int) -> Iterator[tuple[int, int]]:
        """Consecutive (start, stop) of at most ``limit`` bytes of float32."""
        step = max(1, limit // (4 * self.D))
        for start in range(0, self.N, step):
            yield start, min(start + step, self.N)


def search(table: Table, k: int, metric: str, backend: str) -> tuple[Tensor, Tensor]:
    """Distances and indices [N, k] of the k nearest other rows of every row; k < N.

    Equal to ``knn(rows, rows, k, exclude_self=True)`` bit for bit, ties by smaller index.
    """
    found: list[tuple[Tensor, Tensor]] = []
    for first, (start, stop) in enumerate(table.parts(_BANK_BYTES)):
        bank = PackedRows(table.part(start, stop), metric, copy=False)
        for place, (low, high) in enumerate(table.parts(_BLOCK_BYTES)):
            # One more than asked for: the row itself may be among them.
            distances, indices = knn(table.part(low, high), bank, k + 1, backend=backend)
            answer = distances, torch.where(indices < 0, indices, indices + start)
            if first == 0:
                found.append(answer)
            else:
                found[place] = _merge(table, low, metric, found[place], answer)
    return _without_self(table, found, k)


def _without_self(table: Table, found: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    out_distances = torch.empty(table.N, k, dtype=found[0][0].dtype, device=table.device)
    out_indices = torch.empty(table.N, k, dtype=torch.int64, device=table.device)
    for (low, high), (distances, indices) in zip(table.parts(_BLOCK_BYTES), found, strict=True):
        own = indices == torch.arange(low, high, device=table.device)[:, None]
        # Among many equal rows the row itself may be missing; then the last place is one too many.
        own[:, -1] |= ~own.any(1)
        out_distances[low:high] = distances[~own].view(-1, k)
        out_indices[low:high] = indices[~own].view(-1, k)
    return out_distances, out_indices


def _merge(
    table: Table, low: int, metric: str, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The nearest of two lists [n, k], each in order; all indices of ``old`` are smaller than those of ``new``."""
    distances, indices = torch.cat([old[0], new[0]], dim=1), torch.cat([old[1], new[1]], dim=1)
    k = old[0].shape[1]
    keys = distances if metric == "l2" else -distances
    ranked, order = keys.sort(dim=1, stable=True)
    if keys.dtype != torch.float64:
        # Distances equal in float32 may differ in float64, by which each list was ranked.
        tied = (ranked[:, 1:] == ranked[:, :-1]) & ((order[:, 1:] < k) != (order[:, :-1] < k))
        rows = (tied & (indices.gather(1, order)[:, 1:] >= 0)).any(1).nonzero().flatten()
        step = max(1, _EXACT_VALUES // (2 * k * table.D))
        for some in rows.split(step):
            exact = _exact_keys(table, some + low, indices[some], metric)
            order[some] = exact.sort(dim=1, stable=True).indices
    order = order[:, :k]
    return distances.gather(1, order), indices.gather(1, order)


def _exact_keys(table: Table, rows: Tensor, indices: Tensor, metric: str) -> Tensor:
    """float64 [n, m]: squared distances, or similarities with their sign turned; infinite where there is no row."""
    q = table.pick(rows).double()[:, None]
    x = table.pick(indices.clamp_min(0).flatten()).double().view(*indices.shape, table.D)
    if metric == "l2":
        key = (q - x).square().sum(-1)
    else:
        key = -(q * x).sum(-1)
        if metric == "cosine":
            norms = q.norm(dim=-1) * x.norm(dim=-1)
            key = torch.where(norms == 0, torch.zeros_like(key), key / norms)
    return key.masked_fill(indices < 0, torch.inf)
