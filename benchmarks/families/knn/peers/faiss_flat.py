"""faiss on the CPU: brute-force `faiss.knn` (what IndexFlat.search runs, without its copy of the database) and
`faiss.Kmeans`."""

from __future__ import annotations

import time

from benchmarks.families.knn.data import Inputs
from benchmarks.families.knn.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE
EXTRA_ITERATIONS = 3


def unavailable() -> str | None:
    return missing("faiss", install="faiss-cpu")


def versions() -> dict[str, str]:
    return version_of("faiss-cpu", "numpy")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import faiss

    if "blas_threshold" in options:
        faiss.cvar.distance_compute_blas_threshold = options["blas_threshold"]
    backend = faiss.SIMDConfig.get_level_name() if hasattr(faiss, "SIMDConfig") else ""
    if case.op == "lloyd_step":
        return _kmeans(faiss, case, inputs, backend)
    metric = faiss.METRIC_L2 if case.metric == "l2" else faiss.METRIC_INNER_PRODUCT

    def search():
        rows, others = inputs.next()
        if case.metric == "cosine":
            rows, others = rows.copy(), others.copy()
            faiss.normalize_L2(rows)
            faiss.normalize_L2(others)
        return faiss.knn(rows, others, case.k or 1, metric=metric)

    return Prepared(search, lambda result: {"distances": result[0], "ids": result[1]}, backend=backend)


def _kmeans(faiss, case, inputs: Inputs, backend: str) -> Prepared:
    """One iteration is timed as (a long fit − a fit of one iteration) / the iterations between them: a fit also
    checks, copies and builds an index, which is not part of an iteration."""
    rows, centers = inputs.next()

    def fit(iterations: int):
        engine = faiss.Kmeans(
            case.D, case.K, niter=iterations, max_points_per_centroid=case.N, min_points_per_centroid=1
        )
        engine.train(rows, init_centroids=centers)
        return engine.centroids

    def seconds() -> float:
        fit(1)  # untimed: a fit after another contestant's turn pays for cold memory, which the difference would credit
        start = time.perf_counter()
        fit(1)
        middle = time.perf_counter()
        fit(1 + EXTRA_ITERATIONS)
        return max((time.perf_counter() - middle) - (middle - start), 0.0) / EXTRA_ITERATIONS

    return Prepared(
        lambda: fit(1),
        lambda centers: {"centers": centers},
        seconds=seconds,
        calls=3 + EXTRA_ITERATIONS,
        backend=backend,
    )
