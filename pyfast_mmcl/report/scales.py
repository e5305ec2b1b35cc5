"""Axes of a chart: from values to places, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end], by ratio where ``log``; ticks are pairs of value and text."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)


def linear(values: Sequence[float], start: float, end: float, *, least: int = 4) -> Scale:
    """A scale over the values that ends on round ticks, of which there are at least ``least``."""
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / least)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple((n * step, f"{n * step:.{digits}f}".replace("-", "−")) for n in range(first, last + 1))
    return Scale(first * step, last * step, start, end, ticks)


def whole(count: int, start: float, end: float) -> Scale:
    """A scale over 1 … count with a tick at whole numbers, at most ten of them."""
    every = max(1, math.ceil(count / 10))
    ticks = tuple((float(n), str(n)) for n in range(1, count + 1) if (n - 1) % every == 0)
    return Scale(1.0 if count > 1 else 0.5, float(max(count, 2)) if count > 1 else 1.5, start, end, ticks)


def cost(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale over amounts from 0; by ratio where all are positive and the largest is over 20 times the smallest."""
    low, high = min(values), max(values)
    if low <= 0 or high / low <= 20:
        return linear([0.0, high if high > 0 else 1.0], start, end)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = math.ceil((last - first) / 6)
    ticks = tuple((10.0**n, _power(n)) for n in range(first, last + 1, every))
    return Scale(10.0**first, 10.0**last, start, end, ticks, log=True)


def _round_step(least: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (5.0, 2.0, 1.0) if m * power <= least * (1 + 1e-9))


def _power(n: int) -> str:
    """10 to the n as it is read: 0.01, 1,000, 10⁻⁵."""
    if -3 <= n <= 5:
        return f"{10**n:,}" if n >= 0 else f"{10.0**n:g}"
    return "10" + str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
