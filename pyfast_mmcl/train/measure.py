"""What a run costs: memory of the process or device, bytes of a state."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn


def peak_memory(device: torch.device) -> int:
    """Bytes: the largest CUDA allocation so far, or the largest resident size of this process (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # the module does not exist on Windows
        return 0
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def state_bytes(state: Any) -> int:
    """Bytes of all tensors in nested dicts and lists, and of what a dict says it has in files ("bytes_in_files")."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    items = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    in_files = state.get("bytes_in_files", 0) if isinstance(state, dict) else 0
    return in_files + sum(map(state_bytes, items))


def count_parameters(model: nn.Module) -> int:
    """Numbers in all parameters of ``model``, shared ones once."""
    return sum(p.numel() for p in model.parameters())
