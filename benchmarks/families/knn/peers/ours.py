"""pyfast_mmcl itself: knn (one-shot), PackedRows (amortised), nearest, lloyd_step."""

from __future__ import annotations

from benchmarks.families.knn.data import Inputs
from benchmarks.peer import Prepared, missing, version_of

TOLERANCE = 1e-6  # exact float64 ranking; only the rounding of the returned float32 distance is left


def unavailable() -> str | None:
    return missing("pyfast_mmcl.ops.knn", install=".")


def versions() -> dict[str, str]:
    from pyfast_mmcl import _native

    info = _native.info()
    state = info["isa"] if info["built"] else "not built"
    return version_of("pyfast_mmcl", "torch", "numpy") | {"native": state}


def _moved(inputs: Inputs, options: dict) -> Inputs:
    """Torch tensors on the device asked for; NumPy arrays stay NumPy arrays."""
    if "device" not in options:
        return inputs
    from benchmarks.families.knn.peers.torch_mm import to_device

    return to_device(inputs, options["device"])


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    from pyfast_mmcl.ops.knn import PackedRows, knn, lloyd_step, nearest

    inputs = _moved(inputs, options)
    backend = options.get("backend", "auto")
    if case.op == "nearest":
        return Prepared(lambda: nearest(*inputs.next(), metric=case.metric, backend=backend), _search_arrays)
    if case.op == "lloyd_step":
        return Prepared(lambda: lloyd_step(*inputs.next(), metric=case.metric, backend=backend), _lloyd_arrays)
    if not options.get("packed"):
        return Prepared(lambda: knn(*inputs.next(), case.k, metric=case.metric, backend=backend), _search_arrays)
    bank = PackedRows(inputs.arrays["others"], metric=case.metric, copy=False)
    knn(inputs.arrays["rows"][:1], bank, 1, metric=case.metric, backend=backend)  # a bank packs at its first search
    return Prepared(
        lambda: knn(inputs.next()[0], bank, case.k, metric=case.metric, backend=backend),
        _search_arrays,
        held=bank.nbytes,
    )


def _numpy(array):
    return array.cpu().numpy() if hasattr(array, "cpu") else array


def _search_arrays(result) -> dict:
    distances, ids = result
    return {"distances": _numpy(distances).reshape(len(ids), -1), "ids": _numpy(ids).reshape(len(ids), -1)}


def _lloyd_arrays(result) -> dict:
    sums, counts, labels, inertia = result
    names = {"sums": sums, "counts": counts, "labels": labels}
    return {name: _numpy(array) for name, array in names.items()} | {"inertia": float(inertia)}
