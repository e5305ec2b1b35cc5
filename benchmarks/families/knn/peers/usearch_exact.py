"""usearch: exact search without an index."""

from __future__ import annotations

from benchmarks.families.knn.data import Inputs
from benchmarks.families.knn.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("usearch.index", install="usearch")


def versions() -> dict[str, str]:
    return version_of("usearch", "numkong", "simsimd")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    from usearch.index import MetricKind, search

    metric = {"l2": MetricKind.L2sq, "ip": MetricKind.IP, "cosine": MetricKind.Cos}[case.metric]

    def run():
        rows, others = inputs.next()
        return search(others, rows, case.k, metric, exact=True)

    def arrays(result) -> dict:
        distances = result.distances.reshape(case.N, -1)
        if case.metric != "l2":
            distances = 1.0 - distances
        return {"distances": distances, "ids": result.keys.reshape(case.N, -1).astype("int64")}

    return Prepared(run, arrays)
