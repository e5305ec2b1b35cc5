"""flashlib's fused Triton search. float32 input runs in TF32 there, so its answers are judged with TF32's rounding."""

from __future__ import annotations

from benchmarks.families.knn.data import Inputs
from benchmarks.families.knn.gate import TF32_TOLERANCE
from benchmarks.families.knn.peers.torch_mm import search_arrays, to_device
from benchmarks.peer import Prepared, Unsupported, missing, version_of

TOLERANCE = TF32_TOLERANCE


def unavailable() -> str | None:
    return missing("torch", "flashlib", install="flashlib")


def versions() -> dict[str, str]:
    return version_of("flashlib", "triton", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    from flashlib import flash_knn

    if case.metric != "l2":
        raise Unsupported("flashlib searches by squared Euclidean distance only")
    inputs = to_device(inputs, "cuda")
    return Prepared(lambda: flash_knn(*inputs.next(), case.k or 1), search_arrays, backend="triton")
