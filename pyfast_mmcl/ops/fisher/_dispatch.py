"""Which implementation of the Fisher ops runs.

CPU:  native (compiled, instruction set chosen at run time) → torch
CUDA: triton → torch with a sequence, g [B, S, O]; torch without one, where the op is one GEMM of squares
Penalty:                        CPU: native, one pass over memory → torch;  CUDA: torch
float64, and a float64 accumulator: torch
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._backend import Candidate, choose
from . import _native_fisher
from .reference import outer_square_reference


def candidates(out: Tensor, g: Tensor, a: Tensor) -> list[Candidate]:
    """The preference list for these inputs."""
    native = Candidate("native", lambda: native_usable(out, g, a))
    triton = Candidate("triton", lambda: triton_usable(out, g, a))
    fallback = Candidate("torch", lambda: (True, ""))
    if not out.is_cuda:
        return [native, fallback, triton]
    return [fallback, triton] if g.ndim == 2 or g.shape[1] == 1 else [triton, fallback]


def native_usable(out: Tensor, *tensors: Tensor) -> tuple[bool, str]:
    """Whether the compiled kernels take this call, and why not."""
    if out.dtype != torch.float32:
        return False, f"compiled for float32 sums; {out.dtype} runs on the torch reference"
    return _native_fisher.usable(out, *tensors)


def triton_usable(out: Tensor, *tensors: Tensor) -> tuple[bool, str]:
    """Whether the Triton kernel takes this call, and why not; Triton itself is imported only when asked for."""
    for t in (out, *tensors):
        if t.dtype == torch.float64:
            return False, "float64 runs on the torch reference"
    try:
        from . import outer_square_triton
    except ImportError as error:
        return False, f"Triton cannot be imported ({error}); install the `gpu` extra"
    return outer_square_triton.available(out.device)


def penalty_candidates(
    params: Sequence[Tensor], anchors: Sequence[Tensor], weights: Sequence[Tensor]
) -> list[Candidate]:
    """The preference list for a penalty of these lists."""

    def usable() -> tuple[bool, str]:
        kept = [*anchors, *weights]
        if any(t.dtype != torch.float32 for t in kept):
            return False, "compiled for float32 anchors and weights"
        if not all(t.is_contiguous() for t in (*params, *kept)):
            return False, "compiled for contiguous tensors"
        return _native_fisher.usable(*params)

    return [Candidate("native", usable), Candidate("torch", lambda: (True, ""))]


def penalty_backend(
    requested: str, params: Sequence[Tensor], anchors: Sequence[Tensor], weights: Sequence[Tensor]
) -> str:
    """The backend word that runs a penalty; BackendError when the requested one cannot."""
    return choose("quadratic_penalty", requested, penalty_candidates(params, anchors, weights))


def backend_for(op: str, requested: str, out: Tensor, g: Tensor, a: Tensor) -> str:
    """The backend word that runs this call; BackendError when the requested one cannot."""
    return choose(op, requested, candidates(out, g, a))


def run(backend: str, out: Tensor, g: Tensor, a: Tensor, absolute: bool) -> Tensor:
    """``out += Σ_b (g_bᵀ a_b)²`` in place on the chosen backend."""
    if backend == "native":
        _native_fisher.outer_square_accumulate(out, g, a, absolute)
        return out
    if backend == "triton":
        from .outer_square_triton import outer_square_accumulate

        outer_square_accumulate(out, g, a, absolute)
        return out
    return outer_square_reference(out, g, a, absolute)


def run_conv(
    out: Tensor,
    g: Tensor,
    x: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    absolute: bool,
) -> None:
    """Squared per-sample weight gradients of a convolution, by the compiled kernel."""
    _native_fisher.conv_square_accumulate(out, g, x, stride, padding, dilation, groups, absolute)
