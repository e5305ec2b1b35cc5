"""cuVS brute force; the index (row norms) is built inside the timed call, as for every one-shot contestant."""

from __future__ import annotations

from benchmarks.families.knn.data import Inputs
from benchmarks.families.knn.gate import FLOAT32_TOLERANCE
from benchmarks.families.knn.peers.torch_mm import search_arrays, to_device
from benchmarks.peer import Prepared, Unsupported, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("torch", "cuvs.neighbors.brute_force", install="cuvs-cu13")


def versions() -> dict[str, str]:
    return version_of("cuvs-cu13", "cuvs-cu12", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import torch
    from cuvs.neighbors import brute_force

    if case.dtype == "bfloat16":
        raise Unsupported("cuVS brute force takes float32 and float16 only")
    inputs = to_device(inputs, "cuda")
    metric = {"l2": "sqeuclidean", "ip": "inner_product", "cosine": "cosine"}[case.metric]

    def run():
        rows, others = inputs.next()
        return brute_force.search(brute_force.build(others, metric=metric), rows, case.k or 1)

    def arrays(result) -> dict:
        return search_arrays(tuple(torch.as_tensor(part, device="cuda") for part in result))

    return Prepared(run, arrays, backend="cuda")
