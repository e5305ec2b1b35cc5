"""What the contestants of one operation have in common: streams, trees, counts for the gate."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.families.sampling.cases import Case
from benchmarks.families.sampling.gate import DRAWN
from benchmarks.peer import Inputs, Prepared


def tensor(array: np.ndarray) -> Tensor:
    """A view of a mapped file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class Tree(Protocol):
    """A tree of priorities as a library has it; batches are in its own kind of arrays."""

    def sample(self) -> tuple:
        """(rows, importance weights) of one batch."""

    def update(self, index: object, priority: object) -> None: ...


def tree(case: Case, inputs: Inputs, build: Callable[..., Tree], convert: Callable, backend: str) -> Prepared:
    """`build(priorities)` is a filled tree, `convert` makes a library's arrays of NumPy's. Calls go through the
    batches of updates in turn, so that none finds the leaves of the one before in the cache."""
    base = np.array(inputs.arrays["priority"])
    index = [np.array(one) for one in inputs.arrays["index"]]
    factors = inputs.arrays["factor"]
    values = [base[one] * np.float32(factor) for one, factor in zip(index, factors, strict=True)]
    batches = [(convert(one), convert(value)) for one, value in zip(index, values, strict=True)]
    held, place = build(base), iter(())

    def following() -> tuple:
        nonlocal place
        for batch in place:
            return batch
        place = iter(batches)
        return next(place)

    def update() -> None:
        held.update(*following())

    def both() -> tuple:
        drawn = held.sample()
        update()
        return drawn

    def arrays(_: object) -> dict:
        if case.op != "priority_sample":
            for batch in batches:
                held.update(*batch)
        # Copied at once: cpprb answers with views of arrays it fills anew.
        drawn = [np.array([np.asarray(x) for x in held.sample()], np.float64) for _ in range(-(-DRAWN // case.B))]
        index, weight = np.concatenate(drawn, axis=1)
        return {"index": index, "weight": weight}

    run = {"priority_sample": held.sample, "priority_update": update, "priority_both": both}[case.op]
    return Prepared(run, arrays, backend=backend)


def repeated(seconds: Callable[[], float], share: float) -> Callable[[], float]:
    """Seconds of a whole call from those of a part that is `share` of it."""
    return lambda: seconds() / share


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
