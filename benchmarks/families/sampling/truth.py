"""What a gate cannot work out from the inputs alone: the keys of a hash-keyed reservoir, restated in NumPy."""

from __future__ import annotations

import numpy as np

from benchmarks.families.sampling.cases import Case

SEED = 7  # of every contestant that takes one
_GAMMA, _FIRST, _SECOND = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mix(word: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, modulo 2^64."""
    with np.errstate(over="ignore"):
        word = (word ^ (word >> np.uint64(30))) * _FIRST
        word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


def keys(seed: int, index: np.ndarray) -> np.ndarray:
    """Signed 64-bit keys of (seed, id)."""
    with np.errstate(over="ignore"):
        start = _mix(np.array([seed], np.uint64) + _GAMMA)
        return _mix(index.astype(np.uint64) * _GAMMA + start).view(np.int64)


def truth_of(case: Case) -> dict[str, np.ndarray]:
    """For a reservoir the ids with the largest keys, ascending."""
    if case.op != "reservoir":
        return {"none": np.zeros(0)}
    return {"kept": np.sort(np.argsort(keys(SEED, np.arange(case.N)))[-case.M :])}
