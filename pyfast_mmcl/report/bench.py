"""Quick side-by-side timing: what agrees with the float64 truth is timed, interleaved, and reported as a median."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ..ops.knn import knn, lloyd_step, nearest

# A rival may round in float32; beyond this relative error its answer is wrong, not rounded.
TOLERANCE = 1e-3
# Lloyd iterations per timed call: rivals offer whole fits only, so all run the same number from the same centres.
ITERATIONS = 5

Call = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """One contender of one op: median seconds per call, share of rows equal to the truth, or why it was not timed."""

    op: str
    name: str
    ours: bool
    seconds: float | None
    exact: float
    note: str


def interleaved(contenders: Mapping[str, Call], *, rounds: int = 7, warmups: int = 1) -> dict[str, float]:
    """Median seconds per call of each contender over `rounds` rounds A B C, A B C, …

    Interleaving spreads a slow moment of the machine over all contenders instead of charging it to one.
    """
    for _ in range(warmups):
        for call in contenders.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def embeddings(n: int, d: int, seed: int) -> np.ndarray:
    """Rows [n, d] float32 around 64 centres: closer to real embeddings than pure noise."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((64, d), dtype=np.float32)
    return centres[rng.integers(0, 64, n)] + rng.standard_normal((n, d), dtype=np.float32)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Float64 squared distances [N, M]."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return (x * x).sum(1)[:, None] - 2.0 * (x @ y.T) + (y * y).sum(1)


def mm_topk(queries: torch.Tensor, database: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What one writes by hand in torch: the whole [N, M] matrix in float32, then topk."""
    d2 = (queries * queries).sum(1)[:, None] - 2.0 * (queries @ database.T) + (database * database).sum(1)
    return d2.topk(k, largest=False)


def compare_knn(n: int, m: int, d: int, k: int, *, rounds: int, seed: int = 0) -> list[Timing]:
    """Our knn beside torch, faiss and scikit-learn on n queries and m rows."""
    x, y = embeddings(n, d, seed), embeddings(m, d, seed + 1)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    ours = partial(knn, tx, ty, k)
    rivals: dict[str, Call] = {"torch mm + topk": partial(mm_topk, tx, ty, k)}
    if _have("faiss"):
        import faiss

        rivals["faiss"] = partial(faiss.knn, x, y, k)
    if _have("sklearn"):
        from sklearn.neighbors import NearestNeighbors

        searcher = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(y)
        rivals["scikit-learn brute"] = partial(searcher.kneighbors, x)
    # One block of queries at a time keeps the float64 truth small.
    truth = np.concatenate([np.sort(squared_distances(x[i : i + 256], y), axis=1)[:, :k] for i in range(0, n, 256)])

    def gate(answer: Any) -> tuple[float, float]:
        indices = np.asarray(answer[1]).reshape(n, k)
        found = np.sort(np.stack([_row_distances(x[i], y[indices[i]]) for i in range(n)]), axis=1)
        return _agreement(found, truth)

    return _gated("knn", ours, rivals, gate, rounds)


def compare_nearest(n: int, n_centers: int, d: int, *, rounds: int, seed: int = 0) -> list[Timing]:
    """Our nearest beside torch, faiss and scikit-learn on n rows and n_centers centres."""
    x, c = embeddings(n, d, seed), embeddings(n_centers, d, seed + 1)
    tx, tc = torch.from_numpy(x), torch.from_numpy(c)
    rivals: dict[str, Call] = {"torch mm + min": lambda: mm_topk(tx, tc, 1)[1]}
    if _have("faiss"):
        import faiss

        rivals["faiss"] = lambda: faiss.knn(x, c, 1)[1]
    if _have("sklearn"):
        from sklearn.metrics import pairwise_distances_argmin

        rivals["scikit-learn"] = partial(pairwise_distances_argmin, x, c)
    truth = squared_distances(x, c)

    def gate(answer: Any) -> tuple[float, float]:
        labels = np.asarray(answer).reshape(n)
        return _agreement(truth[np.arange(n), labels][:, None], truth.min(axis=1)[:, None])

    return _gated("nearest", lambda: nearest(tx, tc)[1], rivals, gate, rounds)


def compare_lloyd(n: int, n_centers: int, d: int, *, rounds: int, seed: int = 0) -> list[Timing]:
    """Lloyd iterations from the same centres: ours, faiss.Kmeans and scikit-learn's KMeans."""
    x = embeddings(n, d, seed)
    start = np.ascontiguousarray(x[np.random.default_rng(seed).choice(n, n_centers, replace=False)])
    rivals: dict[str, Call] = {}
    if _have("faiss"):
        rivals["faiss.Kmeans"] = partial(_faiss_lloyd, x, start)
    if _have("sklearn"):
        rivals["scikit-learn KMeans"] = partial(_sklearn_lloyd, x, start)
    truth = _inertia(x, _lloyd_float64(x, start))

    def gate(answer: Any) -> tuple[float, float]:
        return _agreement(np.array([[_inertia(x, np.asarray(answer))]]), np.array([[truth]]))

    timings = _gated(
        "lloyd_step", partial(_our_lloyd, torch.from_numpy(x), torch.from_numpy(start)), rivals, gate, rounds
    )
    return [Timing(t.op, t.name, t.ours, t.seconds and t.seconds / ITERATIONS, t.exact, t.note) for t in timings]


def _our_lloyd(x: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    for _ in range(ITERATIONS):
        sums, counts, *_ = lloyd_step(x, centers)
        moved = (sums / counts.clamp(min=1)[:, None]).to(centers.dtype)
        centers = torch.where(counts[:, None] > 0, moved, centers)
    return centers


def _lloyd_float64(x: np.ndarray, centers: np.ndarray) -> np.ndarray:
    for _ in range(ITERATIONS):
        labels = squared_distances(x, centers).argmin(axis=1)
        counts = np.bincount(labels, minlength=len(centers))
        sums = np.zeros(centers.shape)
        np.add.at(sums, labels, x)
        centers = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers)
    return centers


def _faiss_lloyd(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    import faiss

    # Without these two limits faiss trains on a sample, or warns that it has too few rows.
    fit = faiss.Kmeans(
        x.shape[1], len(start), niter=ITERATIONS, max_points_per_centroid=len(x), min_points_per_centroid=1
    )
    fit.train(x, init_centroids=start)
    return np.asarray(fit.centroids)


def _sklearn_lloyd(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Stopping after a few iterations is what is being timed.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return (
            KMeans(len(start), init=start, n_init=1, max_iter=ITERATIONS, tol=0.0, algorithm="lloyd")
            .fit(x)
            .cluster_centers_
        )


def _inertia(x: np.ndarray, centers: np.ndarray) -> float:
    return float(squared_distances(x, centers).min(axis=1).sum())


def _row_distances(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    q, y = query.astype(np.float64), rows.astype(np.float64)
    return (q * q).sum() - 2.0 * (y @ q) + (y * y).sum(axis=1)


def _agreement(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(largest relative error, share of rows that agree to float64 rounding)."""
    error = np.abs(found - truth) / np.maximum(np.abs(truth), 1e-12)
    return float(error.max()), float((error.max(axis=1) < 1e-9).mean())


def _have(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _gated(
    op: str, ours: Call, rivals: Mapping[str, Call], gate: Callable[[Any], tuple[float, float]], rounds: int
) -> list[Timing]:
    contenders = {"pyfast_mmcl": ours, **rivals}
    verdicts = {name: gate(call()) for name, call in contenders.items()}
    fit = {name: call for name, call in contenders.items() if verdicts[name][0] <= TOLERANCE}
    medians = interleaved(fit, rounds=rounds)
    return [
        Timing(
            op,
            name,
            name == "pyfast_mmcl",
            medians.get(name),
            exact,
            "" if name in fit else f"wrong: relative error {error:.1e}, not timed",
        )
        for name, (error, exact) in verdicts.items()
    ]
