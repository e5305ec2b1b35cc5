"""Exact kNN for CUDA tensors: fused Triton scan with certified bounds, float64 ranking of the survivors.

The functions here take checked tensors; `search.py` holds the public `knn` and chooses this backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..._errors import InputError
from .. import _triton_device
from .bank_triton import PackedTriton
from .exact_cuda import exhaustive
from .nearest_triton import label_sums, nearest_kernel

__all__ = ["PackedTriton", "available", "knn_triton", "lloyd_step_triton", "nearest_triton"]

# Rows whose float64 copies exist at a time while norms are taken.
_NORM_ROWS = 65536
# Verdict and reason per device, so that a failed self-check is reported the same way ever after.
_verdicts: dict[torch.device, tuple[bool, str]] = {}


def knn_triton(
    queries: Tensor, database: Tensor, k: int, *, metric: str = "l2", exclude_self: bool = False
) -> tuple[Tensor, Tensor]:
    """The k best rows of each query: ``((q[:, None] - x) ** 2).sum(-1).topk(k, largest=False)``, ranked in float64.

    Args:
        queries: [N, D] float32, float16, bfloat16 or float64.
        database: [M, D] on the same device.
        k: at least 1; beyond M, index −1 and distance +inf (l2) or −inf (ip, cosine).
        metric: "l2" (squared distances, ascending), "ip" or "cosine" (similarities, descending).
        exclude_self: query i does not return row i.

    Returns:
        distances [N, k] float32 (float64 for float64 queries), indices [N, k] int64; ties by smaller index.
    """
    return PackedTriton(database, metric).search(queries, k, exclude_self)


def nearest_triton(x: Tensor, centers: Tensor, *, metric: str = "l2") -> tuple[Tensor, Tensor]:
    """The best centre of each row: distances [N], labels [N]; as `knn_triton` with k = 1, in one pass.

    Args:
        x: [N, D].
        centers: [K, D] on the same device.
        metric: as `knn_triton`.
    """
    return PackedTriton(centers, metric).nearest(x)


def lloyd_step_triton(x: Tensor, centers: Tensor, *, metric: str = "l2") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Assign rows to their nearest centres and add up each cluster; no float atomics, the same bits every time.

    Args:
        x: [N, D].
        centers: [K, D] on the same device, K at least 1.
        metric: "l2", or "cosine": the sums are of rows divided by their norms, zero rows add nothing.

    Returns:
        sums [K, D] float64, counts [K] int64, labels [N] int64, costs [N] float64 (squared distance, or 1 − cosine).
    """
    if metric == "ip":
        raise InputError('metric: expected "l2" or "cosine", got "ip"; inner products have no mean to move to.')
    scores, labels = PackedTriton(centers, metric).nearest64(x)
    if metric == "l2":
        return *label_sums(x, labels, len(centers)), labels, scores
    norms = torch.cat([part.double().norm(dim=1) for part in x.split(_NORM_ROWS)]) if len(x) else scores
    weights = torch.where(norms > 0, 1 / norms, norms)
    return *label_sums(x, labels, len(centers), weights), labels, 1 - scores


def available(device: torch.device | str) -> tuple[bool, str]:
    """Whether the kernels run on ``device``, and why not. The first call on a GPU checks them on a tiny problem."""
    return _triton_device.available(device, nearest_kernel, _verdicts, _first_use)


def _first_use(device: torch.device) -> tuple[bool, str]:
    return _triton_device.first_use(device, "kNN", self_check)


def self_check(device: torch.device) -> str:
    """Run a fixed small problem against exhaustive float64 ranking: the name of what differs, or ""."""
    N, M, D, k = 37, 1301, 40, 5
    # Small integers: every score is exact, so any difference is an error, and ties are frequent.
    cells = torch.arange((N + M) * D, device=device)
    rows = ((cells * 7919) % 1009 % 7 - 3).float().view(N + M, D)
    queries, database = rows[:N], rows[N:]
    own = torch.full((N,), -1, device=device)
    for metric in ("l2", "ip"):
        _, truth = exhaustive(queries, database, k, metric, own)
        bank = PackedTriton(database, metric)
        if not torch.equal(bank.search(queries, k)[1], truth):
            return f"{metric} neighbours"
        if not torch.equal(bank.nearest(queries)[1], truth[:, 0]):
            return f"{metric} nearest rows"
    sums, counts = label_sums(database, truth[:, 0].repeat(M // N + 1)[:M] % 11, 11)
    if counts.sum() != M or not torch.equal(sums.sum(0), database.double().sum(0)):
        return "label sums"
    return ""
