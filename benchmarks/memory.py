"""Peak memory of one call, from the kernel's own high-water mark (Linux)."""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def _field(name: str) -> int | None:
    """A field of /proc/self/status in bytes."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def resident() -> int | None:
    return _field("VmRSS")


def trim() -> None:
    """Give freed heap back, so that a call's memory cannot hide in pages an earlier call left."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"))
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def start() -> int | None:
    """Reset the high-water mark; returns the resident bytes it starts from, None where it cannot be reset."""
    trim()
    try:
        _CLEAR.write_text("5")
    except OSError:
        return None
    return resident()


def extra_since(before: int | None) -> int | None:
    """Bytes by which the peak since `start()` exceeds what was resident then."""
    peak = _field("VmHWM")
    return None if before is None or peak is None else max(0, peak - before)
