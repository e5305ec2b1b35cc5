"""Quick side-by-side timing: what agrees with the float64 truth is timed, interleaved, and reported as a median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(contenders: Mapping[str, Callable[[], object]], *, rounds: int = 7, warmups: int = 1) -> dict[str, float]:
    """Median seconds per call of each contender over `rounds` rounds A B C, A B C, …

    Interleaving spreads a slow moment of the machine over all contenders instead of charging it to one.
    """
    for _ in range(warmups):
        for call in contenders.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
