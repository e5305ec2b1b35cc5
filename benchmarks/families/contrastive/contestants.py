"""Who computes contrastive losses: ours, plain torch in its variants, and the libraries people train with."""

from __future__ import annotations

from benchmarks import contestant
from benchmarks.families.contrastive.cases import OPS, VIEWS, Case

# Roles the goals and the report speak of.
OURS, OURS_BFLOAT16 = "ours", "ours bfloat16"
EAGER, OPEN_CLIP = "eager", "open_clip"
PEER, PEER_BFLOAT16 = contestant.PEER, "peer bfloat16"

PLAIN = ("ours", "torch_eager")  # modules for a quick look inside one process

SMALL = 256  # rows up to which the start of a call matters
FLOAT32 = ("float32",)


def entry(name: str, peer: str, role: str = PEER, *, ops=OPS, **more) -> contestant.Contestant:
    """A contestant whose module lies in this family's peers."""
    return contestant.Contestant(name, f"{__package__}.peers.{peer}", role, ops=ops, **more)


def _has_bank(case: Case) -> bool:
    return case.M > 0


def _ours(base: dict) -> list:
    low = base | {"precision": "bfloat16"}
    kl, packed = {"ops": ("similarity_kl",), "only": _has_bank, "mode": "amortised"}, {"packed": True}
    return [
        entry("pyfast", "ours", OURS, options=base),
        entry("pyfast bf16 tiles", "ours", OURS_BFLOAT16, options=low, dtypes=FLOAT32),
        entry("pyfast packed", "ours", OURS, options=base | packed, **kl),
        entry("pyfast bf16 tiles packed", "ours", OURS_BFLOAT16, options=low | packed, dtypes=FLOAT32, **kl),
    ]


def _plain_torch(base: dict) -> list:
    return [
        entry("torch eager", "torch_eager", EAGER, options=base),
        entry("torch compiled", "torch_eager", options=base | {"compile": True}),
        entry("torch bf16 autocast", "torch_eager", PEER_BFLOAT16, options=base | {"autocast": True}, dtypes=FLOAT32),
        entry("linear_cross_entropy ×2", "torch_linear_cross_entropy", options=base, ops=("info_nce",)),
    ]


def _libraries(base: dict) -> list:
    shared = ("info_nce", "siglip", "similarity_kl")
    return [
        entry("open_clip", "open_clip_losses", OPEN_CLIP, options=base, ops=shared, only=lambda case: not case.M),
        # NTXentLoss lists every pair of a positive and a negative pair: 4·(2N)³ bytes, several times over.
        entry("pytorch-metric-learning NTXent", "metric_learning", options=base, ops=("nt_xent",), max_N=SMALL),
        entry("pytorch-metric-learning SupCon", "metric_learning", options=base | {"as_sup_con": True}, ops=VIEWS),
        entry("lightly NTXent", "lightly_ntxent", options=base, ops=("nt_xent",)),
    ]


_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
CPU = (
    *_ours({}),
    *_plain_torch({}),
    entry("torch eager, passive", "torch_eager", EAGER, env=_PASSIVE, max_N=SMALL),
    entry("torch eager, 1 thread", "torch_eager", EAGER, env={"OMP_NUM_THREADS": "1"}, max_N=SMALL),
    *_libraries({}),
)

_CUDA = {"device": "cuda"}
GPU = (
    *_ours(_CUDA),
    *_plain_torch(_CUDA),
    entry("torch eager TF32", "torch_eager", PEER_BFLOAT16, options=_CUDA | {"tf32": True}, dtypes=FLOAT32),
    *_libraries(_CUDA),
    entry("Inf-CL", "inf_cl", options=_CUDA, ops=("info_nce",)),
    entry("siglip-kernel", "siglip_kernel", options=_CUDA, ops=("siglip",)),
)
