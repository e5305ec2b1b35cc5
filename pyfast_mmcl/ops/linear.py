"""`linear`: torch's linear layer, by the faster of the two libraries that torch brings for float32 on a CPU.

torch asks its BLAS (MKL) for products of float32, and MKL runs AVX2 code on processors that Intel did not make, which
halves the speed of an AVX-512 unit. oneDNN, which torch brings too, has no such preference.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear as torch_linear

_CPU = Path("/proc/cpuinfo")
# Below, the way through autograd in Python costs what the product saves (measured: break-even near 128³).
_LEAST_PRODUCTS = 2**21


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``: x [B, D], weight [H, D], bias [H] → [B, H]; as torch.nn.functional.linear, errors too.

    float32 on a CPU with AVX-512 that is not Intel's: the sums are those of oneDNN, in float32, and may differ from
    MKL's by rounding. Everywhere else it is torch's function. Differentiable, twice too.
    """
    if not _fits(x, weight) or not _pays():
        return torch_linear(x, weight, bias)
    return _Product.apply(x, weight, bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        # By `linear` again: so that the gradient has a gradient.
        return (
            linear(gradient, weight.t()) if of_x else None,
            linear(gradient.t(), x.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.dim() == weight.dim() == 2
        and x.shape[1] == weight.shape[1]
        and x.shape[0] * weight.numel() >= _LEAST_PRODUCTS
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


@cache
def _pays() -> bool:
    # The entry that torch's own compiler calls; where a release of torch lacks it, nothing is lost but speed.
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        maker = "GenuineIntel" not in _CPU.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return maker and torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
