"""Which implementation of the sampling ops runs.

CPU:  native (compiled, instruction set chosen at run time) → torch
CUDA: torch
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _native
from .._backend import Candidate, choose
from . import _native_sampling

OPS = ("herding", "k_center", "gumbel_top_k", "PriorityTree", "Reservoir", "AliasTable")
# The compiled name of each op.
COMPILED = {
    "herding": "herding",
    "k_center": "k_center",
    "gumbel_top_k": "gumbel_top_k",
    "PriorityTree": "PriorityTree",
    "Reservoir": "Reservoir",
    "AliasTable": "alias_sample",
    "reservoir_keys": "hash_keys",
    "weighted_keys": "weighted_keys",
}


def candidates(op: str, *tensors: Tensor) -> list[Candidate]:
    """The preference list of ``op`` for these inputs."""
    native, fallback = Candidate("native", lambda: native_usable(op, *tensors)), Candidate("torch", lambda: (True, ""))
    return [native, fallback]


def native_usable(op: str, *tensors: Tensor) -> tuple[bool, str]:
    """Whether the compiled sampler runs ``op`` on these tensors, and why not."""
    usable, reason = _native_sampling.usable(*tensors)
    if usable and not hasattr(_native.module(), COMPILED[op]):
        return False, f"the compiled module was built without {COMPILED[op]}; rebuild it (`make build`)"
    return usable, reason


def implementation(op: str, requested: str, *tensors: Tensor) -> Any:
    """The module that runs ``op``: the compiled one or the references; BackendError when the requested one cannot."""
    if choose(op, requested, candidates(op, *tensors)) == "native":
        return _native_sampling
    from . import _torch_sampling

    return _torch_sampling


def holder(op: str, requested: str, device: torch.device, *arguments: Any) -> Any:
    """A `PriorityTree` or `Reservoir` of the chosen backend, whose tensors lie on ``device``."""
    module = implementation(op, requested, torch.empty(0, device=device))
    make = getattr(module, op)
    return make(*arguments) if module is _native_sampling else make(*arguments, device=device)
