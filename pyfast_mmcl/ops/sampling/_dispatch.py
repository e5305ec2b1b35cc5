"""Which implementation of the sampling ops runs.

CPU:  native (compiled, instruction set chosen at run time) → torch
CUDA: native where the module was built with CUDA (herding, k-centre, tree, the reservoir's filter) → torch
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _native
from .._backend import Candidate, choose
from . import _native_sampling, _native_sampling_cuda

OPS = ("herding", "k_center", "gumbel_top_k", "PriorityTree", "Reservoir", "AliasTable")
# What the compiled module calls each op, on the CPU and with CUDA.
COMPILED = {
    "herding": ("herding", "herding_cuda"),
    "k_center": ("k_center", "k_center_cuda"),
    "gumbel_top_k": ("gumbel_top_k", None),
    "PriorityTree": ("PriorityTree", "tree_update_cuda"),
    "Reservoir": ("Reservoir", "reservoir_accept_cuda"),
    "AliasTable": ("alias_sample", None),
    "reservoir_keys": ("hash_keys", None),
    "weighted_keys": ("weighted_keys", None),
}


def candidates(op: str, *tensors: Tensor) -> list[Candidate]:
    """The preference list of ``op`` for these inputs."""
    native, fallback = Candidate("native", lambda: native_usable(op, *tensors)), Candidate("torch", lambda: (True, ""))
    return [native, fallback]


def native_usable(op: str, *tensors: Tensor) -> tuple[bool, str]:
    """Whether the compiled sampler runs ``op`` on these tensors, and why not."""
    on_gpu = tensors[0].is_cuda
    name = COMPILED[op][on_gpu]
    if name is None:
        return False, f"compiled for the CPU, the tensor is on {tensors[0].device}"
    usable, reason = (_native_sampling_cuda if on_gpu else _native_sampling).usable(*tensors)
    if usable and not hasattr(_native.module(), name):
        return False, f"the compiled module was built without {name}; rebuild it (`make build`)"
    return usable, reason


def implementation(op: str, requested: str, *tensors: Tensor) -> Any:
    """The module that runs ``op``: a compiled one or the references; BackendError when the requested one cannot."""
    if choose(op, requested, candidates(op, *tensors)) == "torch":
        from . import _torch_sampling

        return _torch_sampling
    if tensors[0].is_cuda:
        from . import _cuda_sampling

        return _cuda_sampling
    return _native_sampling


def holder(op: str, requested: str, device: torch.device, *arguments: Any) -> Any:
    """A `PriorityTree` or `Reservoir` of the chosen backend, whose tensors lie on ``device``."""
    module = implementation(op, requested, torch.empty(0, device=device))
    make = getattr(module, op)
    return make(*arguments) if module is _native_sampling else make(*arguments, device=device)
