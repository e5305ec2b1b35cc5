"""Who computes Fisher diagonals: ours, loops over plain torch as other packages have them, and two libraries."""

from __future__ import annotations

from benchmarks import contestant
from benchmarks.families.fisher.cases import OPS

# Roles the goals and the report speak of.
OURS, STEP, LOOP, BATCH_MEAN, VMAP = "ours", "plain step", "loop of one", "batch mean", "vmap"
PEER = contestant.PEER

PLAIN = ("ours", "torch_loops")  # modules for a quick look inside one process


def entry(name: str, peer: str, role: str = PEER, **more) -> contestant.Contestant:
    """A contestant whose module lies in this family's peers."""
    return contestant.Contestant(name, f"{__package__}.peers.{peer}", role, ops=OPS, **more)


def _pool(base: dict) -> tuple:
    def loop(name: str, role: str, how: str) -> contestant.Contestant:
        return entry(name, "torch_loops", role, options=base | {"how": how})

    return (
        entry("pyfast", "ours", OURS, options=base),
        loop("forward and backward", STEP, "step"),
        loop("loop, batch of one (as Avalanche)", LOOP, "single"),
        loop("loop, squared batch mean (as Avalanche)", BATCH_MEAN, "batch"),
        loop("torch.func vmap(grad)", VMAP, "vmap"),
        entry("Opacus", "opacus_samples", options=base),
        entry("BackPACK", "backpack_squares", options=base),
    )


CPU = _pool({})
GPU = _pool({"device": "cuda"})
