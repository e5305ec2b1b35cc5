"""The virtual adversarial perturbation: the small change of a row that moves its assignment most."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyfast_mmcl.losses.information import assignment_divergence


def virtual_adversarial(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    log_p: Tensor,
    radius: Tensor,
    *,
    xi: float = 10.0,
    iterations: int = 1,
) -> Tensor:
    """Perturbation r [B, D] with ‖r[i]‖ = radius[i] that most raises KL(p(x) ‖ p(x + r)), by power iteration.

    ``d = unit(noise); d = unit(grad_d KL(p(x) ‖ p(x + xi · d)))``, ``iterations`` times; ``r = radius · d``.

    model: rows [B, D] → logarithms of assignments [B, K]; log_p [B, K]: what it gives for x, which is held fixed;
    radius [B]. Noise comes from torch's generator. Rows whose gradient vanishes keep their noise as direction.

    Reference: Miyato et al., *Virtual adversarial training*, TPAMI 2019, §3.3; xi = 10 and one iteration as in IMSAT
    (Hu et al., ICML 2017).
    """
    direction = _unit(torch.randn_like(x))
    target = log_p.detach()
    for _ in range(iterations):
        with torch.enable_grad():
            moved = direction.clone().requires_grad_(True)
            divergence = assignment_divergence(target, model(x.detach() + xi * moved))
            (gradient,) = torch.autograd.grad(divergence, moved)
        found = gradient.flatten(1).norm(dim=1) > 0
        direction = torch.where(found.reshape(-1, *[1] * (x.ndim - 1)), _unit(gradient), direction)
    return radius.reshape(-1, *[1] * (x.ndim - 1)) * direction


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1, their largest entry taken out first so that tiny gradients keep their direction."""
    flat = x.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    return (flat / flat.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)).view_as(x)
