"""Which implementation of the search runs, and how the ops report it.

CPU tensors:  native (compiled; AVX-512 BF16, AVX-512, AVX2 or plain C++, chosen at run time) → torch
CUDA tensors: triton → torch
float64 rows: torch on every device
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import Candidate, choose
from . import _native_knn
from .reference import knn_reference


def triton_usable(*tensors: Tensor) -> tuple[bool, str]:
    """Whether the Triton search takes these tensors, and why not; Triton itself is imported only when asked for."""
    for t in tensors:
        if t.dtype == torch.float64:
            return False, "float64 rows run on the torch reference"
    try:
        from . import search_triton
    except ImportError as error:
        return False, f"Triton cannot be imported ({error}); install the `gpu` extra"
    return search_triton.available(tensors[0].device)


def candidates(*tensors: Tensor) -> list[Candidate]:
    """The preference list for these inputs."""
    native = Candidate("native", lambda: _native_knn.usable(*tensors))
    triton = Candidate("triton", lambda: triton_usable(*tensors))
    fallback = Candidate("torch", lambda: (True, ""))
    return [triton, fallback] if tensors[0].device.type == "cuda" else [native, fallback, triton]


def backend_for(op: str, requested: str, *tensors: Tensor) -> str:
    """The backend word that runs this call; BackendError when the requested one cannot."""
    return choose(op, requested, candidates(*tensors))


def run(
    backend: str, queries: Tensor, database: Tensor, k: int, metric: str, exclude_self: bool = False
) -> tuple[Tensor, Tensor]:
    """Distances (float64 for float64 input, else float32) and indices [N, k] on the chosen backend."""
    if backend == "native":
        return _native_knn.search(queries, database, k, metric, exclude_self)
    if backend == "triton":
        from . import search_triton

        return search_triton.knn_triton(queries, database, k, metric=metric, exclude_self=exclude_self)
    distances, indices = knn_reference(queries, database, k, metric, exclude_self)
    return distances if queries.dtype == torch.float64 else distances.float(), indices
