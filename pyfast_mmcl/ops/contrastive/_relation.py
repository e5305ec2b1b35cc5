"""Sums of Huber losses over pairs and triplets of rows, with their gradients, one block at a time."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK_VALUES = 2**20  # values in one temporary: 4 MiB of float32; three or four live at once


def _huber(gap: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Its sum (float64) and its slope; overwrites ``gap``."""
    slope = gap.clamp(-delta, delta)
    return (slope * gap.sub_(slope, alpha=0.5)).sum(dtype=torch.float64), slope


def _lengths(x: Tensor, rows: slice) -> Tensor:
    # Sums of squared differences: a Gram matrix would lose the digits of rows that lie close together.
    return torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")


def _pulled(x: Tensor, rows: slice, slope: Tensor, lengths: Tensor) -> Tensor:
    # Σ_j slope_ij·(x_i − x_j)/‖x_i − x_j‖ for the rows of a block; 0 where they coincide. Called directly, since
    # autograd does not reach into an operator of torch.library.
    return torch.ops.aten._cdist_backward(slope, x[rows], x, 2.0, lengths)


def _mean_length(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mean of the positive distances and how many there are, float64."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    count = torch.zeros_like(total)
    for start in range(0, x.shape[0], size):
        d = _lengths(x, slice(start, start + size))
        total += d.sum(dtype=torch.float64)
        count += (d != 0).sum()  # NaN is counted, and makes the mean NaN
    return torch.where(count == 0, 1.0, total / count), count


def distance(s: Tensor, t: Tensor, delta: float, need: bool) -> tuple[Tensor, Tensor | None]:
    """Σ_ij huber(D_ij/mean D − T_ij/mean T) and its gradient for ``s``.

    With h_ij the slope, u_ij the unit difference, K the number of positive D: the mean moves with every distance, so
    dL/dD_ij = h_ij/mean − Σ_kl h_kl D_kl/(K·mean²). Both parts are sums over u_ij and are collected in one pass.
    """
    n = s.shape[0]
    size = max(1, _BLOCK_VALUES // max(n, 1))
    s_mean, s_count = _mean_length(s, size)
    t_mean, _ = _mean_length(t, size)
    value = torch.zeros((), dtype=torch.float64, device=s.device)
    pulled = torch.zeros_like(value)
    own, shared = (torch.empty_like(s) for _ in range(2)) if need else (None, None)
    for start in range(0, n, size):
        rows = slice(start, start + size)
        d = _lengths(s, rows)
        part, slope = _huber((d / s_mean).sub_(_lengths(t, rows) / t_mean), delta)
        value += part
        if own is not None and shared is not None:
            pulled += (slope * d).sum(dtype=torch.float64)
            own[rows] = _pulled(s, rows, slope, d)
            shared[rows] = _pulled(s, rows, torch.ones_like(slope), d)
    if own is None or shared is None:
        return value, None
    # Twice: a row is the first and the second of its pairs.
    grad = own.mul_(2 / s_mean) - shared.mul_(2 * pulled / (s_count.clamp(min=1) * s_mean**2))
    return value, grad


def angle(s: Tensor, t: Tensor, delta: float, need: bool) -> tuple[Tensor, Tensor | None]:
    """Σ_jik huber(⟨e_ij, e_kj⟩ − ⟨e′_ij, e′_kj⟩), e_ij the unit vector from apex j to i, and its gradient for ``s``."""
    n = s.shape[0]
    size = max(1, _BLOCK_VALUES // max(n, 1))
    value = torch.zeros((), dtype=torch.float64, device=s.device)
    grad = torch.zeros_like(s) if need else None
    for apex in range(n):
        e, length = _directions(s, apex)
        f, _ = _directions(t, apex)
        pull = torch.empty_like(e) if need else None
        for start in range(0, n, size):
            rows = slice(start, start + size)
            part, slope = _huber((e[rows] @ e.T).sub_(f[rows] @ f.T), delta)
            value += part
            if pull is not None:
                pull[rows] = slope @ e
        if grad is not None and pull is not None:
            # Twice: a direction is the first and the second of its triplets. Only what turns it counts, by 1/length.
            pull = (pull - (pull * e).sum(1, keepdim=True) * e).mul_(torch.where(length == 0, 0.0, 2 / length))
            grad += pull
            grad[apex] -= pull.sum(0)
    return value, grad


def _directions(x: Tensor, apex: int) -> tuple[Tensor, Tensor]:
    """Unit vectors [N, D] from row ``apex`` to every row, 0 where they coincide, and the lengths [N, 1]."""
    gap = x - x[apex]
    length = torch.linalg.vector_norm(gap, dim=1, keepdim=True)
    return gap.div_(torch.where(length == 0, 1.0, length)), length
