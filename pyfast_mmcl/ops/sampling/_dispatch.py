"""Which implementation of the sampling ops runs.

CPU:  native (compiled, instruction set chosen at run time) → torch
CUDA: torch
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .._backend import Candidate, choose

OPS = ("herding", "k_center", "gumbel_top_k", "PriorityTree", "Reservoir", "AliasTable")


def candidates(op: str, *tensors: Tensor) -> list[Candidate]:
    """The preference list of ``op`` for these inputs."""
    return [Candidate("torch", lambda: (True, ""))]


def implementation(op: str, requested: str, *tensors: Tensor) -> Any:
    """The module that runs ``op``: the compiled one or the references; BackendError when the requested one cannot."""
    choose(op, requested, candidates(op, *tensors))
    from . import _torch_sampling

    return _torch_sampling
