"""Who searches and clusters: ours, the many faces of faiss, and what else a user might call."""

from __future__ import annotations

from benchmarks import contestant

SMALL = 999  # queries up to which waiting threads and the choice of algorithm matter

# Roles the goals and the report speak of.
OURS, OURS_AVX2 = "ours", "ours avx2"
FAISS_INSTALLED, FAISS_ENV, FAISS_CODE, FAISS_AVX2 = "faiss installed", "faiss env", "faiss code", "faiss avx2"
PEER = contestant.PEER

PLAIN = ("ours", "torch_mm")  # modules for a quick look inside one process


def entry(name: str, peer: str, role: str = PEER, *, ops=("knn", "nearest", "lloyd_step"), **more):
    """A contestant whose module lies in this family's peers."""
    return contestant.Contestant(name, f"{__package__}.peers.{peer}", role, ops=ops, **more)


def _faiss_variants() -> list:
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}
    skylake, haswell = {"OPENBLAS_CORETYPE": "SkylakeX"}, {"OPENBLAS_CORETYPE": "Haswell"}
    avx2 = haswell | {"FAISS_SIMD_LEVEL": "AVX2"}
    # Below a fixed amount of work faiss computes one dot product per pair; lowering this knob from Python makes it
    # use BLAS from the first query on. Few users know it, so it is a baseline of its own.
    blas_always = {"blas_threshold": 1}
    return [
        entry("faiss as installed", "faiss_flat", FAISS_INSTALLED),
        entry("faiss as installed, passive", "faiss_flat", FAISS_ENV, env=passive, ops=("knn",), max_N=SMALL),
        entry("faiss SkylakeX", "faiss_flat", FAISS_ENV, env=skylake, needs_isa="avx512f"),
        entry(
            "faiss SkylakeX, passive", "faiss_flat", FAISS_ENV, env=skylake | passive, needs_isa="avx512f"
        ),
        entry("faiss Haswell", "faiss_flat", FAISS_ENV, env=haswell),
        entry("faiss Haswell, passive", "faiss_flat", FAISS_ENV, env=haswell | passive, ops=("knn",), max_N=SMALL),
        entry(
            "faiss, 1 thread", "faiss_flat", FAISS_ENV, env=haswell | {"OMP_NUM_THREADS": "1"}, ops=("knn",), max_N=8
        ),
        entry(
            "faiss SkylakeX, BLAS always", "faiss_flat", FAISS_CODE,
            env=skylake | passive, options=blas_always, ops=("knn",), max_N=SMALL, needs_isa="avx512f",
        ),
        entry(
            "faiss Haswell, BLAS always", "faiss_flat", FAISS_CODE,
            env=haswell | passive, options=blas_always, ops=("knn",), max_N=SMALL,
        ),
        entry("faiss AVX2", "faiss_flat", FAISS_AVX2, env=avx2 | passive),
    ]  # fmt: skip


def _ours() -> list:
    packed, avx2 = {"packed": True}, {"PYFAST_ISA": "avx2"}
    return [
        entry("pyfast", "ours", OURS),
        entry("pyfast packed", "ours", OURS, mode="amortised", options=packed, ops=("knn",)),
        entry("pyfast AVX2", "ours", OURS_AVX2, env=avx2),
        entry("pyfast AVX2 packed", "ours", OURS_AVX2, mode="amortised", env=avx2, options=packed, ops=("knn",)),
    ]


CPU = (
    *_ours(),
    *_faiss_variants(),
    entry("torch mm+topk", "torch_mm"),
    entry("scikit-learn", "sklearn_brute"),
    entry("usearch exact", "usearch_exact", ops=("knn",)),
)

_CUDA = {"device": "cuda"}
GPU = (
    entry("pyfast", "ours", OURS, options=_CUDA),
    entry("pyfast packed", "ours", OURS, mode="amortised", options=_CUDA | {"packed": True}, ops=("knn",)),
    entry("torch mm+topk", "torch_mm", options=_CUDA),
    entry("torch mm+topk TF32", "torch_mm", options=_CUDA | {"tf32": True}),
    entry("faiss GPU", "faiss_gpu", ops=("knn", "nearest")),
    entry("cuVS brute force", "cuvs_brute", ops=("knn", "nearest")),
    entry("flashlib", "flashlib_knn", ops=("knn", "nearest")),
)
