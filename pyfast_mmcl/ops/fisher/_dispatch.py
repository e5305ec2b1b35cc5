"""Which implementation of the outer-product–square–accumulate runs.

Without a sequence (g [B, O], a [B, I]) the op is one GEMM of squares and belongs to torch's BLAS.
"""

from __future__ import annotations

from torch import Tensor

from .._backend import Candidate, choose
from .reference import outer_square_reference


def candidates(*tensors: Tensor) -> list[Candidate]:
    """The preference list for these inputs."""
    return [Candidate("torch", lambda: (True, ""))]


def backend_for(op: str, requested: str, *tensors: Tensor) -> str:
    """The backend word that runs this call; BackendError when the requested one cannot."""
    return choose(op, requested, candidates(*tensors))


def run(backend: str, out: Tensor, g: Tensor, a: Tensor, absolute: bool) -> Tensor:
    """``out += Σ_b (g_bᵀ a_b)²`` in place on the chosen backend."""
    return outer_square_reference(out, g, a, absolute)
