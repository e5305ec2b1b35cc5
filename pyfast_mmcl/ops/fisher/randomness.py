"""Passes that only look at a model draw the same random numbers as the pass that counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Drawn:
    """Whether torch's generators moved inside."""

    any: bool = False


@contextlib.contextmanager
def replayed(params: Iterable[Tensor]) -> Iterator[Drawn]:
    """Random numbers that are drawn inside will be drawn again outside."""
    devices = sorted({p.device.index or 0 for p in params if p.is_cuda})
    drawn = Drawn()
    with torch.random.fork_rng(devices):
        before = _states(devices)
        yield drawn
        drawn.any = any(not torch.equal(a, b) for a, b in zip(before, _states(devices), strict=True))


@contextlib.contextmanager
def calm(model: nn.Module) -> Iterator[None]:
    """Dropout of every kind is off inside."""
    active = [m for m in model.modules() if m.training and ("Drop" in type(m).__name__ or _attends(m))]
    for m in active:
        m.training = False
    try:
        yield
    finally:
        for m in active:
            m.training = True


def _attends(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention)


def _states(devices: list[int]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
