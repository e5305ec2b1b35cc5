"""Objectives that shape a code space: locality, sparsity by groups, triplets."""

from __future__ import annotations

import torch
from torch import Tensor


def heat_kernel(square: Tensor) -> Tensor:
    """Affinities ``exp(−square / square.mean())`` of squared distances to neighbours [N, k]; 1 where all are 0.

    Reference: Huang et al., *Deep embedding network for clustering*, ICPR 2014, §III-B; the width, which the paper
    leaves open, is the mean squared distance.
    """
    scale = square.double().mean()
    return torch.exp(-square.double() / scale).to(square.dtype) if float(scale) > 0 else torch.ones_like(square)


def locality(z: Tensor, near: Tensor, weight: Tensor) -> Tensor:
    """``(weight · ‖z[i] − near[i]‖²).mean()``: codes z and near [B, d] of rows and of neighbours of theirs, weight [B].

    Reference: Huang et al., ICPR 2014, §III-B.
    """
    return (weight * (z - near).square().sum(1)).mean()


def group_sparsity(z: Tensor, groups: int) -> Tensor:
    """Mean over rows of ``Σ_g sqrt(d / G) · ‖z[i, g]‖₂``: few groups of coordinates are used by a row.

    z [B, d], whose coordinates are G = ``groups`` consecutive groups of d / G.

    Reference: Huang et al., ICPR 2014, §III-C; Yuan and Lin, JRSS B 2006, for the factor sqrt(d / G).
    """
    parts = z.unflatten(1, (groups, -1))
    # The square root has no gradient at 0.
    norms = parts.square().sum(2).clamp_min(torch.finfo(z.dtype).tiny).sqrt()
    return parts.shape[2] ** 0.5 * norms.sum(1).mean()


def weighted_triplet(z: Tensor, alike: Tensor, other: Tensor, *, gamma: float = 1.0, margin: float = 0.2) -> Tensor:
    """``relu(gamma · ‖z − alike‖² − ‖z − other‖² + margin).mean()`` for codes z, alike and other [B, d], row by row.

    Reference: Yang et al., *Joint unsupervised learning of deep representations and image clusters*, CVPR 2016,
    equation 14 (its affinities as squared distances of unit rows); gamma and margin of its released settings.
    """
    near, far = (z - alike).square().sum(1), (z - other).square().sum(1)
    return (gamma * near - far + margin).clamp_min(0).mean()
