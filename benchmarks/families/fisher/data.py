"""Samples of a Fisher case and their float64 truth, as files that every contestant maps read-only."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from benchmarks.families.fisher.cases import Case
from benchmarks.families.fisher.models import CLASSES, SHAPES
from benchmarks.peer import Inputs

SEED = 23


def file_names(case: Case) -> dict[str, str]:
    return {name: f"{case.id}-{name}.npy" for name in ("x", "y")} | {"truth": f"truth-{case.id}.npz"}


def load(case: Case, folder: Path) -> dict[str, np.ndarray]:
    names = file_names(case)
    return {name: np.load(folder / names[name], mmap_mode="r") for name in ("x", "y")}


def inputs(case: Case, arrays: dict) -> Inputs:
    return Inputs(case, arrays)


def part(case: Case, arrays: dict) -> tuple[Case, dict]:
    """The first batch, cut to eight samples."""
    count = min(8, case.B)
    return dataclasses.replace(case, N=count, B=count), {name: array[:count] for name, array in arrays.items()}


def make(case: Case, folder: Path) -> None:
    """Write whatever of the case's files is missing."""
    from benchmarks.families.fisher.truth import truth_of

    names = file_names(case)
    if not all((folder / names[name]).exists() for name in ("x", "y")):
        generator = np.random.default_rng([SEED, case.N])
        x = generator.standard_normal((case.N, *SHAPES[case.model]), dtype=np.float32)
        np.save(folder / names["x"], x)
        np.save(folder / names["y"], generator.integers(0, CLASSES[case.model], case.N))
    if not (folder / names["truth"]).exists():
        partial = folder / f"partial-{names['truth']}"
        np.savez(partial, **truth_of(case, load(case, folder)))
        os.replace(partial, folder / names["truth"])
