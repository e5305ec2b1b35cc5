"""Objectives of deep clustering."""

from __future__ import annotations

import torch
from torch import Tensor

from pyfast_mmcl.losses._precision import in_full_precision

# Centres are compared with one another up to this many: the table of distances has as many rows and columns.
_MOST_PAIRED = 4096


@in_full_precision
def student_t(z: Tensor, centers: Tensor) -> Tensor:
    """Soft assignments q [N, K] by a Student t kernel with one degree of freedom.

    ``q[i, j] = (1 + ‖z[i] − c[j]‖²)⁻¹``, divided by the sum of its row. z [N, d], centers [K, d].

    Reference: Xie et al., *Unsupervised deep embedding for clustering analysis*, ICML 2016, equation 1.
    """
    square = z.square().sum(1, keepdim=True) + centers.square().sum(1) - 2 * z @ centers.T
    kernel = 1 / (1 + square.clamp_min(0))
    return kernel / kernel.sum(1, keepdim=True)


def target_distribution(q: Tensor) -> Tensor:
    """Sharpened assignments p [N, K] that give every cluster the same weight.

    ``p = q² / q.sum(0)``, divided by the sum of its row. The sums are over all rows: q [N, K] of the whole set.

    Reference: Xie et al., ICML 2016, equation 3.
    """
    weight = q.square() / q.sum(0).clamp_min(torch.finfo(q.dtype).tiny)
    return weight / weight.sum(1, keepdim=True)


def assignment_kl(p: Tensor, q: Tensor) -> Tensor:
    """Mean over rows of KL(p ‖ q): ``(p · (log p − log q)).sum(1).mean()``; p, q [B, K] with rows that sum to 1."""
    tiny = torch.finfo(q.dtype).tiny
    return (torch.xlogy(p, p) - p * q.clamp_min(tiny).log()).sum(1).mean()


@in_full_precision
def nearest_softmax(z: Tensor, centers: Tensor) -> Tensor:
    """Soft assignments [N, K] by equal round Gaussians of variance ½: ``softmax(−‖z[i] − c[j]‖²)``, the nearest first.

    z [N, d], centers [K, d]. A centre that cannot be told from an earlier one in this precision gets nothing: rounding
    would decide between the two, for equal rows in different ways.
    """
    scores = 2 * z @ centers.T - centers.square().sum(1)
    return scores.masked_fill(_repeated(centers), -torch.inf).softmax(1)


def _repeated(centers: Tensor) -> Tensor:
    """Whether a centre lies on an earlier one, up to rounding: bool [K]."""
    if len(centers) > _MOST_PAIRED:
        return torch.zeros(len(centers), dtype=torch.bool, device=centers.device)
    c = centers.detach()
    apart = torch.cdist(c, c, compute_mode="donot_use_mm_for_euclid_dist")
    least = 8 * torch.finfo(c.dtype).eps * c.abs().amax() * c.shape[1] ** 0.5
    return (apart <= least).tril(-1).any(1)
