"""The Wasserstein critic and its gradient penalty."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """What a critic minimises: ``fake.mean() − real.mean()`` for its scores [B] of rows and of generated rows.

    Minus this, at its least over 1-Lipschitz critics, is the Wasserstein distance. Reference: Arjovsky et al., ICML
    2017, equation 2.
    """
    return fake.mean() - real.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """How far the critic's slope is from 1 between real and generated rows: ``((‖∇critic(x)‖ − 1)²).mean()``.

    ``x = share · real + (1 − share) · fake``, share [B] between 0 and 1. real, fake [B, …]; critic: rows → scores [B],
    each of its own row, differentiable twice. The gradient goes to the critic's weights alone.

    Reference: Gulrajani et al., *Improved training of Wasserstein GANs*, NIPS 2017, equation 3.
    """
    share = share.reshape(-1, *[1] * (real.ndim - 1))
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # The norm has no gradient at 0.
    square = slope.flatten(1).square().sum(1).clamp_min(torch.finfo(slope.dtype).tiny)
    return (square.sqrt() - 1).square().mean()
