"""Who chooses rows: ours, the loops of three packages restated, two libraries' trees, and plain torch."""

from __future__ import annotations

from benchmarks import contestant
from benchmarks.families.sampling.cases import DRAWS, TREE

# Roles the goals and the report speak of.
OURS, LOOP, SORT, CPPRB, TORCHRL = "ours", "loop per item", "sort per batch", "cpprb", "torchrl"
FULL_ORDER, FEW, PLAIN_TORCH = "full order", "first m", "plain torch"
PEER = contestant.PEER

PLAIN = ("ours", "torch_plain", "avalanche", "mammoth", "pycil")  # modules for a quick look inside one process


def entry(name: str, peer: str, role: str, *ops: str, **more) -> contestant.Contestant:
    """A contestant whose module lies in this family's peers."""
    return contestant.Contestant(name, f"{__package__}.peers.{peer}", role, ops=ops, **more)


def _whole(case) -> bool:
    return case.op != "herding" or case.M == case.N


def _few(case) -> bool:
    return case.M <= 200


CPU = (
    entry("pyfast", "ours", OURS, "reservoir", *TREE, "herding", "k_center", *DRAWS, "memory_sample"),
    entry("Mammoth, item by item (restated)", "mammoth", LOOP, "reservoir"),
    entry("Avalanche (restated)", "avalanche", SORT, "reservoir"),
    entry("Avalanche, whole order (restated)", "avalanche", FULL_ORDER, "herding", only=_whole),
    entry("PyCIL (restated)", "pycil", FEW, "herding", only=_few),
    entry("cpprb", "cpprb_tree", CPPRB, *TREE),
    entry("torchrl sampler", "torchrl_tree", TORCHRL, *TREE),
    entry("torchrl segment trees", "torchrl_tree", TORCHRL, *TREE, options={"bare": True}),
    entry("torch, norms and one product", "torch_plain", PLAIN_TORCH, "herding", "k_center"),
    entry("torch, differences", "torch_plain", PEER, "k_center", options={"differences": True}),
    entry("torch.multinomial", "torch_plain", PLAIN_TORCH, *DRAWS),
    entry("index_select per modality", "torch_plain", PLAIN_TORCH, "memory_sample"),
)
GPU = ()
