"""Who computes penalties: ours, Avalanche's loop restated, and plain torch as good as it gets."""

from __future__ import annotations

from benchmarks import contestant
from benchmarks.families.quadratic.cases import OPS

# Roles the goals and the report speak of.
OURS, UNFOLDED, AVALANCHE, PLAIN_FOLDED = "ours", "ours, unfolded", "avalanche", "torch, folded"
PEER = contestant.PEER

PLAIN = ("ours", "avalanche_separate", "torch_forms")  # modules for a quick look inside one process


def entry(name: str, peer: str, role: str = PEER, **more) -> contestant.Contestant:
    """A contestant whose module lies in this family's peers."""
    return contestant.Contestant(name, f"{__package__}.peers.{peer}", role, ops=OPS, **more)


def _fits(case) -> bool:
    """Forms that keep something for every task and parameter would fill a small machine's memory together."""
    return case.T * case.P <= 500_000_000


def _pool(base: dict) -> tuple:
    def way(name: str, peer: str, role: str = PEER, mode: str = "one-shot", **options) -> contestant.Contestant:
        several = role in (UNFOLDED, PEER)
        return entry(name, peer, role, mode=mode, options=base | options, only=_fits if several else None)

    return (
        way("pyfast folded", "ours", OURS, "amortised", folded=True),
        way("pyfast, task by task", "ours", UNFOLDED),
        way("Avalanche, separate mode (restated)", "avalanche_separate", AVALANCHE),
        way("torch foreach, task by task", "torch_forms", form="foreach"),
        way("torch flat, task by task", "torch_forms", form="flat"),
        way("torch foreach, folded by us", "torch_forms", PLAIN_FOLDED, "amortised", form="foreach", folded=True),
        way("torch flat, folded by us", "torch_forms", PLAIN_FOLDED, "amortised", form="flat", folded=True),
    )


CPU = _pool({})
GPU = _pool({"device": "cuda"})
