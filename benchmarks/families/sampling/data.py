"""Inputs of a case and what its gate compares with, as files that every contestant maps read-only."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from benchmarks.families.sampling.cases import GREEDY, TREE, Case
from benchmarks.families.sampling.truth import truth_of
from benchmarks.peer import Inputs

SEED = 31
CALLS = 32  # batches of updates a tree's contestants go through in turn
COLUMNS = {"image": (np.uint8, (3, 32, 32)), "audio": (np.float32, (1_024,)), "sensor": (np.float32, (6, 64))}


def _names(case: Case) -> tuple[str, ...]:
    if case.op == "reservoir":
        return ("rows",)
    if case.op in TREE:
        return "priority", "index", "factor"
    if case.op in GREEDY:
        return ("features",)
    return tuple(COLUMNS) if case.op == "memory_sample" else ("weights",)


def file_names(case: Case) -> dict[str, str]:
    """Files of one size serve all its operations."""
    size = f"N{case.N}-B{case.B}" if case.op in TREE else f"N{case.N}-D{case.D}"
    return {name: f"{name}-{size}.npy" for name in _names(case)} | {"truth": f"truth-{case.id}.npz"}


def load(case: Case, folder: Path) -> dict[str, np.ndarray]:
    names = file_names(case)
    return {name: np.load(folder / names[name], mmap_mode="r") for name in _names(case)}


def inputs(case: Case, arrays: dict) -> Inputs:
    return Inputs(case, arrays)


def part(case: Case, arrays: dict) -> tuple[Case, dict]:
    """The first rows of a greedy choice; other cases are never so large that they are probed."""
    if case.op not in GREEDY:
        return case, arrays
    count = min(case.N, 1_000)
    return dataclasses.replace(case, N=count, M=min(case.M, 50)), {"features": arrays["features"][:count]}


def make(case: Case, folder: Path) -> None:
    """Write whatever of the case's files is missing."""
    names = file_names(case)
    for name in _names(case):
        if not (folder / names[name]).exists():
            np.save(folder / names[name], _array(case, name))
    if not (folder / names["truth"]).exists():
        partial = folder / f"partial-{names['truth']}"
        np.savez(partial, **truth_of(case))
        os.replace(partial, folder / names["truth"])


def _array(case: Case, name: str) -> np.ndarray:
    generator = np.random.default_rng([SEED, case.N, len(name)])
    if name in ("priority", "weights"):
        return np.exp(generator.standard_normal(case.N)).astype(np.float32)
    if name == "index":
        return generator.integers(0, case.N, (CALLS, case.B))
    if name == "factor":
        return np.exp(generator.standard_normal(CALLS)).astype(np.float32)
    if name == "rows":
        rows = generator.standard_normal((case.N, case.D), dtype=np.float32)
        rows[:, 0] = np.arange(case.N)  # a row tells which one it is
        return rows
    if name == "features":
        # Mean off the origin and columns of different spread, as a network's features have.
        spread = np.exp(0.5 * generator.standard_normal(case.D, dtype=np.float32))
        return spread * (generator.standard_normal((case.N, case.D), dtype=np.float32) + np.float32(0.5))
    kind, shape = COLUMNS[name]
    if kind is np.uint8:
        return generator.integers(0, 256, (case.N, *shape), dtype=np.uint8)
    return generator.standard_normal((case.N, *shape), dtype=np.float32)


def priorities_after(case: Case, arrays: dict) -> np.ndarray:
    """float64 priorities once every batch of updates was given in its order: base · factor of the last batch."""
    after = np.asarray(arrays["priority"], np.float64).copy()
    if case.op != "priority_sample":
        for index, factor in zip(arrays["index"], arrays["factor"], strict=True):
            after[index] = (np.asarray(arrays["priority"])[index] * np.float32(factor)).astype(np.float64)
    return after
