"""Objectives on a graph of neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from pyfast_mmcl.losses._precision import in_full_precision
from pyfast_mmcl.ops.knn import knn


@in_full_precision
def neighbor_affinity(x: Tensor, k: int) -> Tensor:
    """Symmetric affinities W [B, B] of the rows x [B, D] among themselves: a Gaussian kernel on a k-nearest graph.

    ``W[i, j] = exp(−‖x[i] − x[j]‖² / (2 s²))`` where j is one of the k nearest other rows of i, else 0, s the median
    distance to the k-th neighbour; then ``(W + W.T) / 2``. The diagonal is 0. Without gradients.

    Reference: Shaham et al., *SpectralNet*, ICLR 2018, §3.1, equation 8, with one scale for all rows.
    """
    B = len(x)
    if B < 2:
        return x.new_zeros(B, B)
    square, index = knn(x.detach(), x.detach(), min(k, B - 1), exclude_self=True)
    square = square.clamp_min(0).to(x.dtype)
    scale = square[:, -1].median()
    weight = torch.exp(-square / (2 * scale)) if float(scale) > 0 else torch.ones_like(square)
    W = x.new_zeros(B, B).scatter_(1, index, weight)
    return (W + W.T) / 2


@in_full_precision
def graph_smoothness(y: Tensor, W: Tensor) -> Tensor:
    """``(W · ‖y[i] − y[j]‖²).sum() / B²`` for y [B, K] and symmetric W [B, B], without the B×B×K differences.

    It is ``2 trace(yᵀ (diag(W.sum(1)) − W) y) / B²``. Reference: Shaham et al., ICLR 2018, equation 3.
    """
    degree = W.sum(1)
    return 2 * ((degree[:, None] * y.square()).sum() - (y * (W @ y)).sum()) / len(y) ** 2


def pair_contrast(a: Tensor, b: Tensor, alike: Tensor, *, margin: float = 1.0) -> Tensor:
    """Contrastive loss of pairs: ``where(alike, d², relu(margin − d)²).mean()``, d = ‖a[i] − b[i]‖.

    a, b [B, d], alike bool [B]. Reference: Hadsell et al., CVPR 2006; Shaham et al., ICLR 2018, equation 7.
    """
    square = (a - b).square().sum(1)
    # The square root has no gradient at 0, where the margin is paid in full.
    distance = square.clamp_min(torch.finfo(a.dtype).tiny).sqrt()
    return torch.where(alike, square, (margin - distance).clamp_min(0).square()).mean()
