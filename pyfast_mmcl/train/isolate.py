"""A run leaves the process as it found it: random state and thread count are borrowed and given back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from pyfast_mmcl._errors import InputError


@contextlib.contextmanager
def isolated(device: torch.device, threads: int | None) -> Iterator[None]:
    """Run the body with ``threads`` CPU threads (None: as they are), then restore them and torch's random state."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            if threads is not None:
                torch.set_num_threads(before)


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed the random numbers that modules such as dropout draw, on the CPU and on ``device``."""
    # torch.manual_seed would queue one callback per call for a CUDA that was never used.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.default_generators[device.index].manual_seed(seed)


def choose_device(device: torch.device | str | None) -> torch.device:
    """``device``, or CUDA where there is one, else the CPU. Raises InputError for a device that is not there."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device: expected a name such as 'cpu' or 'cuda:0', got {device!r}.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device: {device} was asked for, but torch sees no CUDA device here; use 'cpu'.")
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"device: {device} was asked for, but torch cannot use it here ({why}); use 'cpu'.") from error
    if chosen.type == "cuda" and chosen.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return chosen
