"""Who runs: a peer module, the environment its process starts with, and the options it is prepared with.

BLAS core types, thread counts and wait policies are read once, when a library loads. Each contestant is therefore a
process of its own with an environment built here and never inherited.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from benchmarks.cases import Case

# Whatever steers BLAS, OpenMP or instruction sets is removed before a contestant's own settings are added.
STEERING_PREFIXES = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_", "FAISS_", "NUMEXPR_", "PYFAST_", "GOTO_")

SMALL = 999  # queries up to which waiting threads and the choice of algorithm matter

# Roles the goals and the report speak of.
OURS, OURS_AVX2 = "ours", "ours avx2"
FAISS_INSTALLED, FAISS_ENV, FAISS_CODE, FAISS_AVX2 = "faiss installed", "faiss env", "faiss code", "faiss avx2"
PEER = "peer"


@dataclass(frozen=True)
class Contestant:
    """`mode` is one-shot (packing or index building inside the timed call) or amortised (built beforehand)."""

    name: str
    peer: str
    role: str = PEER
    mode: str = "one-shot"
    env: dict = field(default_factory=dict, hash=False)
    options: dict = field(default_factory=dict, hash=False)
    ops: tuple = ("knn", "nearest", "lloyd_step")
    max_N: int | None = None
    needs_isa: str | None = None

    def accepts(self, case: Case, isa_flags: frozenset[str]) -> bool:
        if self.needs_isa and self.needs_isa not in isa_flags:
            return False
        return case.op in self.ops and (self.max_N is None or case.N <= self.max_N)


def environment(contestant: Contestant, threads: int) -> dict[str, str]:
    """The whole environment of a contestant's process."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(STEERING_PREFIXES)}
    env["OMP_NUM_THREADS"] = str(threads)
    env.update(contestant.env)
    return env


def _faiss_variants() -> list[Contestant]:
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}
    skylake, haswell = {"OPENBLAS_CORETYPE": "SkylakeX"}, {"OPENBLAS_CORETYPE": "Haswell"}
    avx2 = haswell | {"FAISS_SIMD_LEVEL": "AVX2"}
    # Below a fixed amount of work faiss computes one dot product per pair; lowering this knob from Python makes it
    # use BLAS from the first query on. Few users know it, so it is a baseline of its own.
    blas_always = {"blas_threshold": 1}
    return [
        Contestant("faiss as installed", "faiss_flat", FAISS_INSTALLED),
        Contestant("faiss as installed, passive", "faiss_flat", FAISS_ENV, env=passive, ops=("knn",), max_N=SMALL),
        Contestant("faiss SkylakeX", "faiss_flat", FAISS_ENV, env=skylake, needs_isa="avx512f"),
        Contestant(
            "faiss SkylakeX, passive", "faiss_flat", FAISS_ENV, env=skylake | passive, needs_isa="avx512f"
        ),
        Contestant("faiss Haswell", "faiss_flat", FAISS_ENV, env=haswell),
        Contestant("faiss Haswell, passive", "faiss_flat", FAISS_ENV, env=haswell | passive, ops=("knn",), max_N=SMALL),
        Contestant(
            "faiss, 1 thread", "faiss_flat", FAISS_ENV, env=haswell | {"OMP_NUM_THREADS": "1"}, ops=("knn",), max_N=8
        ),
        Contestant(
            "faiss SkylakeX, BLAS always", "faiss_flat", FAISS_CODE,
            env=skylake | passive, options=blas_always, ops=("knn",), max_N=SMALL, needs_isa="avx512f",
        ),
        Contestant(
            "faiss Haswell, BLAS always", "faiss_flat", FAISS_CODE,
            env=haswell | passive, options=blas_always, ops=("knn",), max_N=SMALL,
        ),
        Contestant("faiss AVX2", "faiss_flat", FAISS_AVX2, env=avx2 | passive),
    ]  # fmt: skip


def _ours() -> list[Contestant]:
    packed, avx2 = {"packed": True}, {"PYFAST_ISA": "avx2"}
    return [
        Contestant("pyfast", "ours", OURS),
        Contestant("pyfast packed", "ours", OURS, mode="amortised", options=packed, ops=("knn",)),
        Contestant("pyfast AVX2", "ours", OURS_AVX2, env=avx2),
        Contestant("pyfast AVX2 packed", "ours", OURS_AVX2, mode="amortised", env=avx2, options=packed, ops=("knn",)),
    ]


CPU = (
    *_ours(),
    *_faiss_variants(),
    Contestant("torch mm+topk", "torch_mm"),
    Contestant("scikit-learn", "sklearn_brute"),
    Contestant("usearch exact", "usearch_exact", ops=("knn",)),
)

_CUDA = {"device": "cuda"}
GPU = (
    Contestant("pyfast", "ours", OURS, options=_CUDA),
    Contestant("pyfast packed", "ours", OURS, mode="amortised", options=_CUDA | {"packed": True}, ops=("knn",)),
    Contestant("torch mm+topk", "torch_mm", options=_CUDA),
    Contestant("torch mm+topk TF32", "torch_mm", options=_CUDA | {"tf32": True}),
    Contestant("faiss GPU", "faiss_gpu", ops=("knn", "nearest")),
    Contestant("cuVS brute force", "cuvs_brute", ops=("knn", "nearest")),
    Contestant("flashlib", "flashlib_knn", ops=("knn", "nearest")),
)


def entrants(case: Case, pool: tuple[Contestant, ...], isa_flags: frozenset[str]) -> list[Contestant]:
    """Contestants of `pool` that take part in `case` on a CPU with these flags, in a fixed order."""
    return [contestant for contestant in pool if contestant.accepts(case, isa_flags)]
