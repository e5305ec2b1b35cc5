"""Gaussian mixtures in a code space: responsibilities, and the bound that VaDE maximises."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyfast_mmcl.losses._precision import in_full_precision


@in_full_precision
def mixture_log_density(z: Tensor, log_weight: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """``log(weight[c] · N(z; mean[c], diag(exp(log_variance[c]))))`` [B, K].

    z [B, d], log_weight [K], mean and log_variance [K, d].
    """
    precision = (-log_variance).exp()
    distance = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(1)
    constant = log_variance.sum(1) + mean.shape[1] * math.log(2 * math.pi)
    return log_weight - (distance.clamp_min(0) + constant) / 2


def responsibilities(z: Tensor, log_weight: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """p(c | z) [B, K]: ``mixture_log_density(z, …).softmax(1)``.

    Reference: Jiang et al., *Variational deep embedding*, IJCAI 2017, equation 16.
    """
    return mixture_log_density(z, log_weight, mean, log_variance).softmax(1)


@in_full_precision
def mixture_divergence(
    gamma: Tensor, code_mean: Tensor, code_log_variance: Tensor, log_weight: Tensor, mean: Tensor, log_variance: Tensor
) -> Tensor:
    """KL(q(z, c | x) ‖ p(z, c)) [B] of q(z | x) q(c | x) from a Gaussian mixture: VaDE's bound without reconstruction.

    ``½ Σ_c γ_c Σ_j (log s²_cj + σ²_j / s²_cj + (μ_j − m_cj)² / s²_cj) − Σ_c γ_c log(π_c / γ_c) − ½ Σ_j (1 + log σ²_j)``

    gamma [B, K]: q(c | x); code_mean μ and code_log_variance log σ² [B, d]; log_weight log π [K]; mean m and
    log_variance log s² [K, d].

    Reference: Jiang et al., IJCAI 2017, equation 12.
    """
    precision = (-log_variance).exp()
    inside = code_log_variance.exp() @ precision.T
    offset = (
        code_mean.square() @ precision.T - 2 * code_mean @ (mean * precision).T + (mean.square() * precision).sum(1)
    )
    codes = gamma * (log_variance.sum(1) + inside + offset.clamp_min(0))
    labels = torch.xlogy(gamma, gamma.clamp_min(torch.finfo(gamma.dtype).tiny)) - gamma * log_weight
    return codes.sum(1) / 2 + labels.sum(1) - (1 + code_log_variance).sum(1) / 2
