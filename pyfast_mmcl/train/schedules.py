"""Learning rates over the steps of a task: a warm-up, then a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING

from pyfast_mmcl._errors import InputError, unknown_name, whole_number

if TYPE_CHECKING:
    from torch.optim import Optimizer

# (step, steps) → factor of the learning rate; step from 0, steps those of the task behind the warm-up.
Schedule = Callable[[int, int], float]


def cosine(step: int, steps: int) -> float:
    """½ (1 + cos(π step / steps)): from 1 to almost 0 (Loshchilov and Hutter, SGDR, ICLR 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


SCHEDULES: dict[str, Schedule] = {"constant": lambda step, steps: 1.0, "cosine": cosine}


class LearningRate:
    """Every group's rate at a step of the task = its first rate · warm-up · schedule; each task starts anew.

    schedule  name in SCHEDULES, or a function (step, steps) → factor
    warmup    steps over which the rate rises in a straight line to its value: a whole number, or a share of the task
              below 1 (default 0: none)
    """

    def __init__(self, schedule: str | Schedule = "constant", warmup: float = 0) -> None:
        if not callable(schedule) and not (isinstance(schedule, str) and schedule in SCHEDULES):
            raise unknown_name("schedule", schedule, SCHEDULES)
        self._schedule = schedule if callable(schedule) else SCHEDULES[schedule]
        self.name = schedule if isinstance(schedule, str) else getattr(schedule, "__qualname__", repr(schedule))
        share = isinstance(warmup, Real) and not isinstance(warmup, bool) and 0 < warmup < 1
        self.warmup = float(warmup) if share else whole_number("warmup", warmup, least=0)
        self._rates: list[float] = []

    def start(self, optimizer: Optimizer) -> None:
        """Take the rates of a newly built optimizer as those that the factors are of."""
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def set(self, optimizer: Optimizer, step: int, steps: int) -> None:
        """The rates of ``step`` (from 0) of a task of ``steps``."""
        if self.name == "constant" and self.warmup == 0:
            return
        rising = round(self.warmup * steps) if self.warmup < 1 else int(self.warmup)
        factor = (step + 1) / rising if step < rising else self._schedule(step - rising, steps - rising)
        if not 0 <= factor < math.inf:
            raise InputError(f"schedule: expected a finite factor of at least 0, got {factor} at step {step}.")
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
