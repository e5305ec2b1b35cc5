"""Inputs and float64 truth of a kNN case, written once as .npy files that every contestant maps read-only."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from benchmarks import peer
from benchmarks.arrays import round_bfloat16
from benchmarks.families.knn.cases import Case

SEED = 20
BLOCK_ROWS = 16_384
SAMPLE_QUERIES = 16  # queries whose neighbours are checked against float64


def file_names(case: Case) -> dict[str, str]:
    """File of each array. Equal shapes share a file, so consecutive cases reuse a large database."""
    rows = f"rows-{case.op}-{case.N}-{case.D}-{case.dtype}.npy"
    others = f"others-{case.op}-{case.others}-{case.D}-{case.dtype}"
    if case.op != "knn":  # centres are chosen among the rows
        others += f"-of-{case.N}"
    return {"rows": rows, "others": f"{others}.npy", "truth": f"truth-{case.id}.npz"}


def load(case: Case, folder: Path) -> dict[str, np.ndarray]:
    """Read-only maps of `rows` [N, D] and `others` [M or K, D]."""
    names = file_names(case)
    return {name: np.load(folder / names[name], mmap_mode="r") for name in ("rows", "others")}


@dataclasses.dataclass
class Inputs(peer.Inputs):
    """`next()` gives the same views each time, or ever smaller ones for a moving case."""

    step: int = dataclasses.field(default=0, init=False)

    def next(self) -> tuple:
        rows, others = self.arrays["rows"], self.arrays["others"]
        if not self.case.moving:
            return rows, others
        cut, self.step = self.step % 64, self.step + 1
        return rows[: len(rows) - cut], others[: len(others) - cut]


def inputs(case: Case, arrays: dict) -> Inputs:
    return Inputs(case, arrays)


def part(case: Case, arrays: dict) -> tuple[Case, dict]:
    """A part of the larger side, enough to predict the whole."""
    side, letter = ("rows", "N") if case.op != "knn" or case.N > case.M else ("others", "M")
    size = getattr(case, letter)
    kept = max(size // 40, min(size, 2_000))
    return dataclasses.replace(case, **{letter: kept}), arrays | {side: arrays[side][:kept]}


def make(case: Case, folder: Path) -> None:
    """Write whatever of the case's files is missing."""
    names = file_names(case)
    if not (folder / names["rows"]).exists():
        _write_normal(folder / names["rows"], case.N, case.D, stream=1, dtype=case.dtype)
    if not (folder / names["others"]).exists():
        if case.op == "knn":
            _write_normal(folder / names["others"], case.others, case.D, stream=2, dtype=case.dtype)
        else:
            rows = np.load(folder / names["rows"], mmap_mode="r")
            # Rows themselves, evenly spread: every centre then owns at least one row and no cluster is empty.
            np.save(folder / names["others"], rows[np.linspace(0, case.N - 1, case.K).astype(np.int64)])
    if not (folder / names["truth"]).exists():
        arrays = load(case, folder)
        truth = lloyd_truth(**arrays) if case.op == "lloyd_step" else search_truth(case, **arrays)
        partial = folder / f"partial-{names['truth']}"
        np.savez(partial, **truth)
        os.replace(partial, folder / names["truth"])


def _write_normal(path: Path, count: int, D: int, *, stream: int, dtype: str) -> None:
    """Standard normal rows [count, D] float32 from a seed, rounded to bfloat16 values for a bfloat16 case."""
    generator = np.random.default_rng([SEED, stream, D])
    partial = path.with_name(f"partial-{path.name}")
    out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(count, D))
    for start in range(0, count, BLOCK_ROWS):
        block = generator.standard_normal((min(BLOCK_ROWS, count - start), D), dtype=np.float32)
        out[start : start + len(block)] = round_bfloat16(block) if dtype == "bfloat16" else block
    out.flush()
    os.replace(partial, path)


def pair_values(queries: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """float64 values, smaller is nearer: [n, D], [n, m, D] → [n, m]. l2 by direct differences, no cancellation."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        return np.square(queries[:, None, :] - rows).sum(2)
    dots = np.einsum("nd,nmd->nm", queries, rows)
    if metric == "cosine":
        dots /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=2)
    return -dots


def _block_values(queries: np.ndarray, block: np.ndarray, metric: str) -> np.ndarray:
    """float64 values through one product [n, m]; l2 without the query's own norm, which does not change a ranking."""
    dots = queries @ block.T
    if metric == "l2":
        return np.square(block).sum(1) - 2 * dots
    return -dots / np.linalg.norm(block, axis=1) if metric == "cosine" else -dots


def search_truth(case: Case, rows: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """The k+1 nearest rows of a sample of queries: `sample` [S], `values` [S, k+1], `ids` [S, k+1], `scale` [S]."""
    sample = np.unique(np.linspace(0, case.N - 1, SAMPLE_QUERIES).astype(np.int64))
    queries = rows[sample].astype(np.float64)
    keep = min((case.k or 1) + 1, len(others))
    values, ids = np.empty((len(sample), 0)), np.empty((len(sample), 0), np.int64)
    largest = 0.0
    for start in range(0, len(others), BLOCK_ROWS):
        block = others[start : start + BLOCK_ROWS].astype(np.float64)
        largest = max(largest, float(np.square(block).sum(1).max()))
        values = np.concatenate([values, _block_values(queries, block, case.metric)], axis=1)
        new_ids = np.broadcast_to(np.arange(start, start + len(block)), (len(sample), len(block)))
        ids = np.concatenate([ids, new_ids], axis=1)
        order = np.argsort(values, axis=1, kind="stable")[:, :keep]
        values, ids = np.take_along_axis(values, order, 1), np.take_along_axis(ids, order, 1)
    exact = pair_values(queries, others[ids], case.metric)
    order = np.lexsort((ids, exact), axis=1)
    scale = np.ones(len(sample)) if case.metric == "cosine" else np.square(queries).sum(1) + largest
    return {
        "sample": sample,
        "values": np.take_along_axis(exact, order, 1),
        "ids": np.take_along_axis(ids, order, 1),
        "scale": scale,
    }


def lloyd_truth(rows: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """One exact step: `labels` [N], `gaps` [N] to the second nearest centre, `counts` [K], `sums` [K, D], `inertia`."""
    centers = others.astype(np.float64)
    labels, gaps = np.empty(len(rows), np.int64), np.empty(len(rows))
    sums, inertia = np.zeros_like(centers), 0.0
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS].astype(np.float64)
        values = _block_values(block, centers, "l2")
        labels[start : start + len(block)] = values.argmin(1)
        two = np.partition(values, 1, axis=1)[:, :2] if len(centers) > 1 else np.pad(values, ((0, 0), (0, 1)))
        gaps[start : start + len(block)] = two[:, 1] - two[:, 0]
        own = labels[start : start + len(block)]
        np.add.at(sums, own, block)
        inertia += float(np.square(block - centers[own]).sum())
    counts = np.bincount(labels, minlength=len(centers))
    scale = float(np.square(centers).sum(1).max())
    return {"labels": labels, "gaps": gaps, "counts": counts, "sums": sums, "inertia": inertia, "scale": scale}
