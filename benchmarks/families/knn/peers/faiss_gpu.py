"""faiss on a GPU: `faiss.knn_gpu` on torch tensors."""

from __future__ import annotations

from benchmarks.families.knn.data import Inputs
from benchmarks.families.knn.gate import FLOAT32_TOLERANCE
from benchmarks.families.knn.peers.torch_mm import search_arrays, to_device
from benchmarks.peer import Prepared, Unsupported, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    reason = missing("torch", "faiss.contrib.torch_utils", install="faiss-gpu-cuvs")
    if reason:
        return reason
    import faiss

    return None if hasattr(faiss, "StandardGpuResources") else "this faiss was built without GPU support"


def versions() -> dict[str, str]:
    return version_of("faiss-gpu-cuvs", "faiss-gpu-cu12", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    if case.metric == "cosine":
        raise Unsupported("faiss on a GPU has no cosine metric")
    import faiss
    import faiss.contrib.torch_utils  # teaches faiss to take torch tensors

    inputs = to_device(inputs, "cuda")
    resources = faiss.StandardGpuResources()
    metric = {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT}[case.metric]

    def run():
        return faiss.knn_gpu(resources, *inputs.next(), case.k or 1, metric=metric)

    return Prepared(run, search_arrays, backend="cuda")
