"""Seconds of one call: wall clock on the CPU, CUDA events on a GPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import contextmanager


def wall_seconds(run: Callable) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cuda_seconds(run: Callable) -> float:
    """Between two events on the current stream; the result is complete when this returns."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


@contextmanager
def no_collection():
    """Python's garbage collector switched off while calls are timed."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def turn(seconds: Callable[[], float], *, at_least: float, warm: bool, most: int = 50) -> list[float]:
    """One turn of a contestant: an untimed call if `warm`, then timed ones until they add up to `at_least` seconds."""
    with no_collection():
        if warm:
            seconds()
        samples = [seconds()]
        while sum(samples) < at_least and len(samples) < most:
            samples.append(seconds())
    return samples
