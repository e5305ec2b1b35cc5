"""Rows of a contrastive case and their float64 truth, as .npy files that every contestant maps read-only.

Pairs look like those of a model that has learnt something: a row and its partner have a cosine of about 0.4, all
other pairs are random. Rows of NT-Xent and SupCon have no unit norm: normalising them is part of the timed call, since
several libraries do it inside the loss.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from benchmarks.arrays import round_bfloat16
from benchmarks.families.contrastive.cases import VIEWS, Case
from benchmarks.peer import Inputs

SEED = 21
LIKENESS = 0.4  # cosine of a pair
SCALE = {"info_nce": 1 / 0.07, "siglip": 10.0, "nt_xent": 10.0, "sup_con": 10.0, "similarity_kl": 1 / 0.07}
BIAS = -10.0  # of siglip, as its paper initialises it

NAMES = {
    "info_nce": ("a", "b"),
    "siglip": ("a", "b"),
    "nt_xent": ("z",),
    "sup_con": ("z", "labels"),
    "similarity_kl": ("student_a", "student_b", "teacher_a", "teacher_b"),
}


def array_names(case: Case) -> tuple[str, ...]:
    return ("student_a", "teacher_a", "bank") if case.M else NAMES[case.op]


def file_names(case: Case) -> dict[str, str]:
    """File of each array and of the truth."""
    return {name: f"{case.id}-{name}.npy" for name in array_names(case)} | {"truth": f"truth-{case.id}.npz"}


def load(case: Case, folder: Path) -> dict[str, np.ndarray]:
    """Read-only maps of the arrays; rows are float32, rounded to bfloat16 values for a bfloat16 case."""
    names = file_names(case)
    return {name: np.load(folder / names[name], mmap_mode="r") for name in array_names(case)}


def inputs(case: Case, arrays: dict) -> Inputs:
    return Inputs(case, arrays)


def part(case: Case, arrays: dict, rows: int = 1_024) -> tuple[Case, dict]:
    """The first `rows` rows of every side (of every view)."""
    n, m = min(rows, case.N), min(rows, case.M)
    kept = {}
    for name, array in arrays.items():
        if case.op in VIEWS:
            kept[name] = np.concatenate([array[:n], array[case.N : case.N + n]])
        else:
            kept[name] = array[: m if name == "bank" else n]
    return dataclasses.replace(case, N=n, M=m), kept


def make(case: Case, folder: Path) -> None:
    """Write whatever of the case's files is missing."""
    from benchmarks.families.contrastive.truth import truth_of

    names = file_names(case)
    if not all((folder / name).exists() for key, name in names.items() if key != "truth"):
        for name, array in _arrays(case).items():
            np.save(folder / names[name], array)
    if not (folder / names["truth"]).exists():
        partial = folder / f"partial-{names['truth']}"
        np.savez(partial, **truth_of(case, load(case, folder)))
        os.replace(partial, folder / names["truth"])


def _arrays(case: Case) -> dict[str, np.ndarray]:
    generator = np.random.default_rng([SEED, case.N, case.D])
    first = _unit(generator, case.N, case.D)
    second = _near(generator, first, LIKENESS)
    if case.op in VIEWS:
        lengths = generator.uniform(0.5, 2.0, (2 * case.N, 1)).astype(np.float32)
        arrays = {"z": np.concatenate([first, second]) * lengths}
        if case.op == "sup_con":
            arrays["labels"] = np.tile(generator.integers(0, case.C, case.N), 2)
    elif case.op == "similarity_kl":
        student = {"student_a": _near(generator, first, 0.8)}
        if case.M:
            return _rounded(case, student | {"teacher_a": first, "bank": _unit(generator, case.M, case.D)})
        student["student_b"] = _near(generator, second, 0.8)
        arrays = student | {"teacher_a": first, "teacher_b": second}
    else:
        arrays = {"a": first, "b": second}
    return _rounded(case, arrays)


def _rounded(case: Case, arrays: dict) -> dict:
    if case.dtype != "bfloat16":
        return arrays
    return {name: array if name == "labels" else round_bfloat16(array) for name, array in arrays.items()}


def _unit(generator: np.random.Generator, count: int, D: int) -> np.ndarray:
    rows = generator.standard_normal((count, D), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _near(generator: np.random.Generator, rows: np.ndarray, cosine: float) -> np.ndarray:
    """Unit rows at about this cosine to the given ones."""
    mixed = cosine * rows + np.sqrt(1 - cosine**2) * _unit(generator, *rows.shape)
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
