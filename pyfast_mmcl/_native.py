"""The one door to the compiled module ``pyfast_mmcl._C``.

Loading happens on first use and its failure is kept: a broken build never looks like an absent one.
"""

from __future__ import annotations

import functools
import importlib
import types
from typing import Any

import torch
from torch.utils.dlpack import to_dlpack

from ._errors import BackendError

# The compiled module speaks this version of the interface; another one was left behind by an older build.
INTERFACE = 4


@functools.lru_cache(maxsize=1)
def _load() -> tuple[types.ModuleType | None, str]:
    try:
        module = importlib.import_module("pyfast_mmcl._C")
    except ModuleNotFoundError as error:
        if error.name != "pyfast_mmcl._C":
            return None, f"the compiled module failed to import: {error}"
        return None, "pyfast_mmcl._C is not built; reinstall with a C++17 compiler, or run `make build` in a checkout"
    except ImportError as error:
        return None, f"the compiled module failed to import: {error}"
    if getattr(module, "interface", None) != INTERFACE:
        return None, "pyfast_mmcl._C comes from another version; rebuild it (`make build`, or reinstall)"
    return module, ""


def available() -> tuple[bool, str]:
    """Whether the compiled module can be used, and why not."""
    module, reason = _load()
    return module is not None, reason


def module() -> Any:
    """The compiled module; raises BackendError with the reason when there is none."""
    found, reason = _load()
    if found is None:
        raise BackendError(f"the native backend is not available: {reason}.")
    return found


def capsule(x: torch.Tensor) -> Any:
    """A borrowed DLPack view of ``x``: dtype, shape, strides and device travel with the pointer."""
    return to_dlpack(x.detach() if x.requires_grad else x)


def info() -> dict[str, Any]:
    """What is built and what this CPU runs: built, reason, isa, isas, cuda, version."""
    found, reason = _load()
    if found is None:
        return {"built": False, "reason": reason, "isa": "", "isas": [], "cuda": False, "version": ""}
    return {
        "built": True,
        "reason": "",
        "isa": found.isa(),
        "isas": list(found.isas()),
        "cuda": bool(found.with_cuda),
        "version": found.version,
    }
