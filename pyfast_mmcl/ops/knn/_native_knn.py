"""Glue to the compiled search: allocates outputs, passes DLPack capsules and torch's thread count."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import _native
from ._checks import METRICS, new_outputs


def usable(*tensors: Tensor) -> tuple[bool, str]:
    """Whether the compiled search takes these tensors, and why not."""
    for t in tensors:
        if t.device.type != "cpu":
            return False, f"compiled for the CPU, the rows are on {t.device}"
        if t.dtype == torch.float64:
            return False, "float64 rows run on the torch reference; float32 is ranked in float64 just the same"
    return _native.available()


def search(
    queries: Tensor,  # [N, D]
    database: Any,  # [M, D] tensor, or a compiled bank
    k: int,
    metric: str,
    exclude_self: bool = False,
    query_ids: Tensor | None = None,  # int64, ascending: search only these queries …
    database_ids: Tensor | None = None,  # … among these rows
    out: tuple[Tensor, Tensor] | None = None,  # rows named by query_ids are written
) -> tuple[Tensor, Tensor]:
    """Distances float32 [N, k] and indices int64 [N, k]."""
    distances, indices = out or new_outputs(queries.shape[0], k, queries)
    bank = None if isinstance(database, Tensor) else database
    capsule = _native.capsule
    _native.module().knn(
        capsule(queries),
        None if query_ids is None else capsule(query_ids),
        None if bank is not None else capsule(database),
        None if database_ids is None else capsule(database_ids),
        bank,
        capsule(distances),
        capsule(indices),
        METRICS.index(metric),
        exclude_self,
        torch.get_num_threads(),
    )
    return distances, indices


def new_bank(metric: str, features: int) -> Any:
    """An empty compiled bank."""
    return _native.module().Bank(METRICS.index(metric), features)


def append(bank: Any, rows: Tensor) -> None:
    """Pack rows behind the present ones; the caller keeps ``rows`` alive and unchanged."""
    bank.append(_native.capsule(rows), torch.get_num_threads())


def lloyd(x: Tensor, centers: Tensor, metric: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums float64 [K, D], counts int64 [K], labels int64 [N] and costs float64 [N]."""
    k, d = centers.shape
    sums = torch.empty(k, d, dtype=torch.float64)
    counts = torch.empty(k, dtype=torch.int64)
    labels = torch.empty(x.shape[0], dtype=torch.int64)
    costs = torch.empty(x.shape[0], dtype=torch.float64)
    outputs = [_native.capsule(t) for t in (sums, counts, labels, costs)]
    _native.module().lloyd(
        _native.capsule(x), _native.capsule(centers), METRICS.index(metric), *outputs, torch.get_num_threads()
    )
    return sums, counts, labels, costs


def draw_in_parts(
    x: Tensor, weights: np.ndarray, cost: np.ndarray, starts: np.ndarray, draws: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """Chosen rows int64 [S]; ``cost`` falls in place."""
    chosen = np.full(len(uniform), -1, dtype=np.int64)
    arrays = [torch.from_numpy(a) for a in (weights, cost, starts, draws, uniform, chosen)]
    capsules = [_native.capsule(t) for t in arrays]
    _native.module().seeding(_native.capsule(x), *capsules, torch.get_num_threads())
    return chosen
