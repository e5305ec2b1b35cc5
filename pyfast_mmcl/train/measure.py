"""What a run costs: memory of the process or device, bytes of a state."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pyfast_mmcl.train.history import History
    from pyfast_mmcl.train.learner import Learner


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


def note_costs(learner: Learner, history: History) -> None:
    """Write down what the task that has just ended cost: memory, bytes kept, parameters, epochs."""
    trained = set(learner._trained)
    sizes = {name: p.numel() for name, p in learner.model.named_parameters()}
    history.peak_memory.append(peak_memory(learner.device))
    history.kept_bytes.append(state_bytes([part.state_dict() for part in learner.parts]))
    history.trainable_parameters.append(sum(size for name, size in sizes.items() if name in trained))
    history.parameters.append(sum(sizes.values()))
    history.epochs.append(learner.epoch)
