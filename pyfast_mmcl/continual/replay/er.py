"""Experience replay."""

from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe


@recipe(
    family="replay",
    paper="A. Chaudhry et al., On Tiny Episodic Memories in Continual Learning, arXiv:1902.10486, 2019",
)
def er(capacity: int = 200, rows: int | None = None) -> list[Part]:
    """Cross-entropy on every batch together with as many rows of a reservoir memory.

    loss = cross_entropy(scores[fresh + memory], target[fresh + memory])

    capacity  rows of the memory (200 is the smallest buffer of Buzzega et al., NeurIPS 2020)
    rows      rows drawn per step; None draws as many as the batch has, as in the paper

    Reference: Chaudhry et al., arXiv:1902.10486, 2019, algorithm 1. Ours keeps a reservoir by hash keys of (seed,
    example id) in place of random slots: also a uniform sample, but the same after any interruption.
    """
    return [Replay(capacity, rows=rows), CrossEntropy()]
