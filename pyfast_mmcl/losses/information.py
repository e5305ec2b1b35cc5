"""Mutual information of rows and clusters, and invariance of soft assignments."""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """Entropy in nats over the last axis: ``−(p · log p).sum(−1)``, 0 · log 0 = 0."""
    return -torch.xlogy(p, p.clamp_min(torch.finfo(p.dtype).tiny)).sum(-1)


def marginal_entropy(p: Tensor) -> Tensor:
    """Entropy of the mean assignment: ``H(p.mean(0))`` for p [B, K]. It is log K when all clusters weigh the same."""
    return entropy(p.mean(0))


def conditional_entropy(p: Tensor) -> Tensor:
    """Mean entropy of the assignments: ``H(p[i]).mean()`` for p [B, K]. It is 0 when all are certain."""
    return entropy(p).mean()


def assignment_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Mean over rows of KL(p ‖ q) for logarithms p, q [B, K] of assignments: ``(p.exp() · (p − q)).sum(1).mean()``."""
    return (p.exp() * (p - q)).sum(1).mean()
