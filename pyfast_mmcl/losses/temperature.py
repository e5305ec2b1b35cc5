"""The learnable number that multiplies similarities, kept as its logarithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_above_zero


class LogitScale(nn.Module):
    """scale = exp(min(logit_scale, log max_scale)); scale = 1/temperature.

    Args:
        temperature: the value at the start; logit_scale starts at log(1/temperature).
        learnable: a parameter, or a buffer that keeps its value. Both are saved under the name logit_scale.
        max_scale: the largest scale; None: no bound. Past it the value stays at max_scale and the gradient passes, so
            that logit_scale can come back; `clamp_` puts logit_scale itself back, as CLIP's training loop does after
            every step.

    Raises:
        InputError: temperature or max_scale not above 0, or a first scale above max_scale.

    Reference: Radford et al., CLIP, ICML 2021, §2.5 (0.07, clipped at 100).
    """

    logit_scale: Tensor

    def __init__(self, temperature: float, *, learnable: bool = True, max_scale: float | None = None) -> None:
        super().__init__()
        start = -math.log(number_above_zero("temperature", temperature))
        # A temperature of 0.01 and a bound of 100 agree but for their rounding.
        if max_scale is not None and start > math.log(number_above_zero("max_scale", max_scale)) + 1e-9:
            raise InputError(
                f"temperature: expected at least 1/max_scale = {1 / max_scale:g}, got {temperature:g}; "
                "raise the temperature or max_scale."
            )
        self.max_scale = max_scale
        if learnable:
            self.logit_scale = nn.Parameter(torch.tensor(start))
        else:
            self.register_buffer("logit_scale", torch.tensor(start))

    def scale(self) -> Tensor:
        """The factor of the similarities, 0-d."""
        x = self.logit_scale
        if self.max_scale is not None:
            x = x - (x - math.log(self.max_scale)).clamp(min=0).detach()
        return x.exp()

    @torch.no_grad()
    def clamp_(self) -> None:
        """Put logit_scale itself back to at most log(max_scale); for the end of a training step."""
        if self.max_scale is not None:
            self.logit_scale.clamp_(max=math.log(self.max_scale))

    def extra_repr(self) -> str:
        return f"temperature={math.exp(-float(self.logit_scale.detach())):.4g}, max_scale={self.max_scale}"
