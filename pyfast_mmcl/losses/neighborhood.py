"""Objectives of neighbours that share a cluster, and of assignments that teach themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def neighbor_consistency(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Minus the log-probability that a row and its neighbour fall into one cluster: ``−log((p · q).sum(-1)).mean(0)``.

    log_p, log_q: logarithms of assignments [B, K] of rows and of one neighbour each; or [B, H, K] of H heads, which
    give H losses.

    Reference: Van Gansbeke et al., *SCAN*, ECCV 2020, equation 2, first term.
    """
    return -(log_p + log_q).logsumexp(-1).mean(0)


def confident_cross_entropy(scores: Tensor, p: Tensor, threshold: float) -> Tensor:
    """Cross-entropy with the clusters of confident rows, every cluster weighing the same; 0 where no row is confident.

    ``mean over clusters c of cross_entropy(scores[own == c], c)``, own = argmax p of the rows with max p > threshold.

    scores [B, K] of changed rows, p [B, K] the assignments of the same rows unchanged, without gradients.

    Reference: Van Gansbeke et al., *SCAN*, ECCV 2020, §2.3, with the weights of its supplementary material.
    """
    confidence, own = p.detach().max(1)
    sure = confidence > threshold
    counts = torch.bincount(own[sure], minlength=p.shape[1])
    present = (counts > 0).sum().clamp_min(1)
    weight = sure.to(scores.dtype) / (counts[own].clamp_min(1) * present)
    return (weight * cross_entropy(scores, own, reduction="none")).sum()
