"""Whether a family's Triton kernels run on a device: decided once per device, by a self-check on its first use."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from typing import Any

import torch
import triton

Verdict = tuple[bool, str]  # usable, and why (not)

# What a first launch raises where compiler, headers, driver or memory are missing.
_FAILURES = (RuntimeError, OSError, ImportError, AssertionError, subprocess.SubprocessError, triton.TritonError)


def available(
    device: torch.device | str,
    kernel: Any,
    verdicts: dict[torch.device, Verdict],
    first_use: Callable[[torch.device], Verdict],
) -> Verdict:
    """Whether kernels such as ``kernel`` run on ``device``; ``verdicts`` keeps what ``first_use`` said of a GPU.

    On the CPU they run under Triton's interpreter only, which is for tests: it must have been switched on with
    TRITON_INTERPRET=1 before Triton was first imported.
    """
    device = torch.device(device)
    if device.type == "cpu":
        if isinstance(kernel, triton.runtime.JITFunction):
            return False, "Triton kernels need a CUDA device (for tests, TRITON_INTERPRET=1 runs them on the CPU)"
        return True, "Triton's interpreter is on (TRITON_INTERPRET=1): correct but slow"
    if device.type != "cuda" or not torch.cuda.is_available():
        return False, f"Triton kernels need a CUDA device, got {device}"
    if device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if device not in verdicts:
        verdicts[device] = first_use(device)
    return verdicts[device]


def first_use(device: torch.device, family: str, self_check: Callable[[torch.device], str]) -> Verdict:
    """Run ``self_check``, which names what comes out wrong or returns ""; a failure warns once and is kept."""
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return False, f"needs compute capability 8.0 or newer, {device} has {major}.{minor}"
    try:
        wrong = self_check(device)
        reason = f"the self-check on {device} gave wrong {wrong}"
    except _FAILURES as error:
        wrong = "run"
        reason = f"the self-check on {device} failed: {(str(error).strip() or repr(error)).splitlines()[0]}"
    if wrong:
        warnings.warn(f"the Triton {family} kernels are not used: {reason}.", stacklevel=5)
        return False, reason
    return True, f"self-check passed on {device}"
