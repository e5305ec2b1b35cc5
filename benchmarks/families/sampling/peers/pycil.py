"""Herding as PyCIL has it, restated in NumPy: the mean each row would give, the nearest row, which is then deleted from
the features and from the data (here its ids, which favours it: there, images)."""

from __future__ import annotations

from benchmarks.families.sampling.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("numpy", install="numpy")


def versions() -> dict[str, str]:
    return version_of("numpy")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import numpy as np

    features = np.array(inputs.arrays["features"])

    def run():
        vectors, ids, mean = features, np.arange(case.N), features.mean(axis=0)
        chosen, picked = [], []
        for k in range(1, case.M + 1):
            total = np.sum(picked, axis=0)
            means = (vectors + total) / k
            best = np.argmin(np.sqrt(np.sum((mean - means) ** 2, axis=1)))
            chosen.append(ids[best])
            picked.append(np.array(vectors[best]))
            vectors, ids = np.delete(vectors, best, axis=0), np.delete(ids, best, axis=0)
        return np.array(chosen)

    return Prepared(run, lambda order: {"order": order})
