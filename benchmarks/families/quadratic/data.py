"""Parameters, anchors, importances and the float64 truth, as files that every contestant maps read-only."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from benchmarks.families.quadratic.cases import Case
from benchmarks.families.quadratic.truth import truth_of
from benchmarks.peer import Inputs

SEED = 29
SPREAD, DRIFT = 0.05, 0.01  # of weights, and how far a task moves them
UNUSED = 0.1  # share of the parameters without importance


def _names(case: Case) -> list[str]:
    return ["current", *(f"{kind}{t}" for t in range(case.distinct) for kind in ("anchor", "weight"))]


def file_names(case: Case) -> dict[str, str]:
    return {name: f"{case.model}-{name}.npy" for name in _names(case)} | {"truth": f"truth-{case.id}.npz"}


def load(case: Case, folder: Path) -> dict[str, np.ndarray]:
    names = file_names(case)
    return {name: np.load(folder / names[name], mmap_mode="r") for name in _names(case)}


def inputs(case: Case, arrays: dict) -> Inputs:
    return Inputs(case, arrays)


def part(case: Case, arrays: dict) -> tuple[Case, dict]:
    """The first task alone."""
    small = dataclasses.replace(case, T=1)
    return small, {name: arrays[name] for name in _names(small)}


def make(case: Case, folder: Path) -> None:
    """Write whatever of the case's files is missing."""
    names = file_names(case)
    for number, name in enumerate(_names(case)):
        if not (folder / names[name]).exists():
            np.save(folder / names[name], _array(name, case.P, number))
    if not (folder / names["truth"]).exists():
        partial = folder / f"partial-{names['truth']}"
        np.savez(partial, **truth_of(case, load(case, folder)))
        os.replace(partial, folder / names["truth"])


def _array(name: str, P: int, number: int) -> np.ndarray:
    """Weights of a network near a common start, or squares of normal numbers with some of them zero."""
    generator = np.random.default_rng([SEED, number])
    drawn = generator.standard_normal(P, dtype=np.float32)
    if name.startswith("weight"):
        np.square(drawn, out=drawn)
        drawn[generator.random(P, dtype=np.float32) < UNUSED] = 0
        return drawn
    start = np.random.default_rng(SEED).standard_normal(P, dtype=np.float32)
    return SPREAD * start + DRIFT * drawn
