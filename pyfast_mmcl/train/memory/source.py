"""What replay draws from: a memory of examples, or a generator that makes them up."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from pyfast_mmcl.data import Batch


@runtime_checkable
class ReplaySource(Protocol):
    """Anything that gives rows of earlier tasks. ``Memory`` is one, and so may a generator be.

    ``len(source)`` is how many different rows it can give (0: none yet, and nothing is drawn); ``sample(n, generator)``
    gives at most n rows as a Batch with ``fresh=0``, random numbers from ``generator`` (one of the CPU) alone.
    """

    def __len__(self) -> int: ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Batch: ...
