"""Which implementation of the pair primitives runs, and how the ops report it.

CPU tensors:  native (compiled) → torch tiles → triton (its interpreter)
CUDA tensors: triton → torch tiles
float64 rows: torch tiles on every device
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .._backend import Candidate, choose

# Searched once per request and kind of input: a small batch has no time for the list. Failures are not kept.
_chosen: dict[tuple[Any, ...], ModuleType] = {}
_MODULES = {"torch": "pairs_torch", "native": "_native_pairs", "triton": "pairs_triton"}


def _load(backend: str) -> tuple[ModuleType | None, str]:
    name = f"{__package__}.{_MODULES[backend]}"
    try:
        return importlib.import_module(name), ""
    except ModuleNotFoundError as error:
        if error.name == name:
            return None, f"this version has no {backend} kernels for it"
        return None, f"it cannot be imported ({error})"
    except ImportError as error:
        return None, f"it cannot be imported ({error})"


def _native_usable(tensors: tuple[Tensor, ...]) -> tuple[bool, str]:
    for t in tensors:
        if t.device.type != "cpu":
            return False, f"compiled for the CPU, the rows are on {t.device}"
        if t.dtype == torch.float64:
            return False, "float64 rows run on the torch tiles"
    found, reason = _load("native")
    return (False, reason) if found is None else found.usable(*tensors)


def _triton_usable(tensors: tuple[Tensor, ...]) -> tuple[bool, str]:
    for t in tensors:
        if t.dtype == torch.float64:
            return False, "float64 rows run on the torch tiles"
    found, reason = _load("triton")
    return (False, reason) if found is None else found.available(tensors[0].device)


def candidates(*tensors: Tensor) -> list[Candidate]:
    """The preference list for these inputs."""
    native = Candidate("native", lambda: _native_usable(tensors))
    triton = Candidate("triton", lambda: _triton_usable(tensors))
    tiles = Candidate("torch", lambda: (True, ""))
    return [triton, tiles] if tensors[0].device.type == "cuda" else [native, tiles, triton]


def module(op: str, requested: str, *tensors: Tensor) -> ModuleType:
    """The module that runs this call; BackendError when the backend asked for by name cannot."""
    key = (requested, *((t.device, t.dtype) for t in tensors))
    if key not in _chosen:
        word = choose(op, requested, candidates(*tensors))
        _chosen[key] = importlib.import_module(f"{__package__}.{_MODULES[word]}")
    return _chosen[key]


def opened(op: str, requested: str, precision: str, *sides: Any) -> tuple[ModuleType, list[Any]]:
    """`module` for sides that are tensors or `PackedReference`, and the sides as that module reads them."""
    tensors = [x if isinstance(x, Tensor) else x.rows for x in sides]
    found = module(op, requested, *tensors)
    if not all(x.numel() for x in tensors):
        return importlib.import_module(f"{__package__}.pairs_torch"), tensors  # no pairs: nothing to be fast at
    if precision == "auto":  # decided by the rows that are no reference; a packed form holds no dtype to ask
        precision = "bfloat16" if tensors[0].dtype == torch.bfloat16 else "float32"
    compiled = found.__name__.endswith(_MODULES["native"])
    return found, [x.compiled(precision) if compiled and x is not t else t for x, t in zip(sides, tensors, strict=True)]
