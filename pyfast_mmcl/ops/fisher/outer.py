"""`outer_square_accumulate`: per-sample outer products, squared and summed, that never reach memory together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._errors import InputError
from . import _dispatch

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def outer_square_accumulate(out: Any, g: Any, a: Any, *, absolute: bool = False, backend: str = "auto") -> Any:
    """Add the squared per-sample weight gradients of a linear layer to ``out``, in place.

    ``out += torch.einsum("bso,bsi->boi", g, a).square().sum(0)``; the [B, O, I] tensor is never formed.
    Without a sequence it is ``out += g.square().T @ a.square()``, one GEMM.

    Args:
        out: [O, I] float32 or float64 accumulator, torch (any device, any strides) or NumPy; changed in place.
        g: gradient of each sample's own loss with respect to the layer's output, [B, S, O] or [B, O]; float32,
            bfloat16, float16 or float64. Products, squares and sums are formed in the precision of ``out``.
        a: input of the layer, [B, S, I] or [B, I].
        absolute: |·| in place of the square (memory-aware synapses, MAS). Default False.
        backend: "auto" | "torch" | "native" | "triton"; one asked for by name never falls back.

    Returns:
        ``out``.

    Raises:
        InputError: shapes, dtypes or devices that do not fit together.
        BackendError: the backend asked for by name cannot run.

    Reference: van de Ven, On the computation of the Fisher information in continual learning, arXiv 2502.11756;
    Goodfellow, Efficient per-example gradient computations, arXiv 1510.01799.
    """
    target, g_t, a_t = _tensor(out, "out"), _tensor(g, "g"), _tensor(a, "a")
    check_shapes(target, g_t, a_t)
    chosen = _dispatch.backend_for("outer_square_accumulate", backend, target, g_t, a_t)
    _dispatch.run(chosen, target, g_t, a_t, absolute)
    return out


def check_shapes(out: Tensor, g: Tensor, a: Tensor) -> None:
    """Raise InputError unless out [O, I], g [B, (S,) O] and a [B, (S,) I] fit together."""
    if g.ndim not in (2, 3) or g.ndim != a.ndim or g.shape[:-1] != a.shape[:-1]:
        raise InputError(
            f"g and a: expected [B, S, O] and [B, S, I], or [B, O] and [B, I], got {list(g.shape)} and {list(a.shape)}."
        )
    expected = [g.shape[-1], a.shape[-1]]
    if list(out.shape) != expected:
        raise InputError(f"out: expected shape [O, I] = {expected}, got {list(out.shape)}.")
    if out.dtype not in (torch.float32, torch.float64):
        raise InputError(f"out: expected a float32 or float64 accumulator, got {out.dtype}; allocate it with .float().")
    for name, x in (("g", g), ("a", a)):
        if x.dtype not in FLOATS:
            raise InputError(f"{name}: expected float32, bfloat16, float16 or float64, got {x.dtype}.")
        if x.device != out.device:
            raise InputError(f"{name} is on {x.device} and out on {out.device}; move one with .to(device).")


def _tensor(x: Any, name: str) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach()
    if isinstance(x, np.ndarray):
        return torch.from_numpy(x)
    raise InputError(f"{name}: expected a torch tensor or a NumPy array, got {type(x).__name__}.")
