"""The steps of `pyfast-mmcl demo`: the main job on scikit-learn's digits, as plain numbers ready for JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..clustering.kmeans import KMeans
from ..data import digits_stream
from ..metrics.clustering import ari, clustering_accuracy, nmi
from ..ops.knn import knn
from ..train import run_continual
from . import bench

METHODS = ("finetune", "er", "joint")
N_CLASSES = 10
N_NEIGHBORS = 5
MEMBERS = 9  # images shown beside each centre


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as rows [1797, 64] float32 in [0, 1] and classes [1797]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64)


def continual(
    *,
    seed: int,
    epochs: int = 10,
    methods: Sequence[str] = METHODS,
    progress: bool = False,
    notice: Callable[[Any], None] = lambda history: None,
) -> dict[str, Any]:
    """Image + text class-incremental digits under each method: method → history as a dictionary."""
    results = {}
    for method in methods:
        stream = digits_stream(scenario="cil", seed=seed)
        history = run_continual(method, stream, epochs=epochs, seed=seed, progress=progress)
        notice(history)
        results[method] = {**history.to_dict(), "summary": history.summary()}
    return results


def clustering(*, seed: int) -> dict[str, Any]:
    """K-means on the images: scores, table of counts [10 classes, 10 clusters], centres and typical members."""
    x, classes = digits()
    start = time.perf_counter()
    model = KMeans(N_CLASSES, n_init=10, random_state=seed).fit(x)
    seconds = time.perf_counter() - start
    labels = np.asarray(model.labels_)
    counts = np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64)
    np.add.at(counts, (classes, labels), 1)
    # Clusters are shown in the order of the digit most of their rows are.
    order = np.lexsort((np.arange(N_CLASSES), counts.argmax(axis=0)))
    centers = np.asarray(model.cluster_centers_)[order]
    return {
        "acc": clustering_accuracy(classes, labels),
        "nmi": nmi(classes, labels),
        "ari": ari(classes, labels),
        "inertia": float(model.inertia_),
        "iterations": int(model.n_iter_),
        "counts": counts[:, order].tolist(),
        "centers": centers.round(4).tolist(),
        "members": [np.flatnonzero(labels == k)[:MEMBERS].tolist() for k in order],
        "seconds": seconds,
    }


def classification(*, seed: int) -> dict[str, Any]:
    """k-nearest-neighbour classification of the images, four fifths against one fifth: accuracy and counts [10, 10]."""
    x, classes = digits()
    shuffled = np.random.default_rng(seed).permutation(len(x))
    cut = 4 * len(x) // 5
    bank, test = shuffled[:cut], shuffled[cut:]
    start = time.perf_counter()
    _, neighbors = knn(x[test], x[bank], N_NEIGHBORS)
    seconds = time.perf_counter() - start
    votes = np.zeros((len(test), N_CLASSES), dtype=np.int64)
    np.add.at(votes, (np.arange(len(test))[:, None], classes[bank][neighbors]), 1)
    predicted = votes.argmax(axis=1)
    counts = np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64)
    np.add.at(counts, (classes[test], predicted), 1)
    return {
        "accuracy": float((predicted == classes[test]).mean()),
        "neighbors": N_NEIGHBORS,
        "bank": len(bank),
        "test": len(test),
        "counts": counts.tolist(),
        "seconds": seconds,
    }


def speed(*, rounds: int = 7) -> list[dict[str, Any]]:
    """Our knn beside torch's mm + topk, on the digits and on embedding-sized rows: medians in seconds."""
    x, _ = digits()

    def rows(n: int, seed: int) -> torch.Tensor:
        return torch.from_numpy(bench.embeddings(n, 512, seed))

    cases: list[tuple[str, torch.Tensor, torch.Tensor, int]] = [
        ("digits", torch.from_numpy(x), torch.from_numpy(x), 10),
        ("embeddings", rows(200, 0), rows(20_000, 1), 10),
    ]
    results = []
    for name, queries, database, k in cases:
        calls = {
            "ours": lambda q=queries, y=database, k=k: knn(q, y, k),
            "torch": lambda q=queries, y=database, k=k: bench.mm_topk(q, y, k),
        }
        # Distances, not indices: digits repeat, and torch breaks ties at will.
        agreed = torch.allclose(calls["ours"]()[0], calls["torch"]()[0], rtol=bench.TOLERANCE, atol=bench.TOLERANCE)
        shape = {"N": len(queries), "M": len(database), "D": queries.shape[1], "k": k}
        medians = bench.interleaved(calls, rounds=rounds) if agreed else None
        results.append({"name": name, **shape, "seconds": medians, "rounds": rounds})
    return results
