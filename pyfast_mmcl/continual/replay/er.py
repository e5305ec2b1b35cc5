"""Experience replay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyfast_mmcl.train.memory import KeyPolicy, Policy
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective, Replay
from pyfast_mmcl.train.registry import recipe


@recipe(
    family="replay",
    paper="A. Chaudhry et al., On Tiny Episodic Memories in Continual Learning, arXiv:1902.10486, 2019",
)
def er(
    capacity: int | None = 200,
    rows: int | None = None,
    policy: str | Policy | KeyPolicy = "reservoir",
    max_bytes: int | None = None,
    storage: str = "device",
    folder: str | Path | None = None,
    codecs: Mapping[str, str] | None = None,
) -> list[Part]:
    """Cross-entropy on every batch together with as many rows of a memory.

    loss = cross_entropy(scores[fresh + memory], target[fresh + memory])

    capacity   rows of the memory (200 is the smallest buffer of Buzzega et al., NeurIPS 2020)
    rows       rows drawn per step; None draws as many as the batch has, as in the paper
    policy     which rows the memory keeps: "reservoir", as in the paper; "ring", the last that came; "class_balanced",
               "task_balanced"; or a policy of one's own
    max_bytes  a budget in bytes, beside ``capacity`` or in place of it (capacity=None)
    storage    where the memory lies, with "memmap" in files under ``folder``; codecs: {modality: how it is stored}. All
               as in ``train.Memory``

    Reference: Chaudhry et al., arXiv:1902.10486, 2019, algorithm 1. Ours keeps a reservoir by hash keys of (seed,
    example id) in place of random slots: also a uniform sample, but the same after any interruption.
    """
    replay = Replay(
        capacity, rows=rows, policy=policy, max_bytes=max_bytes, storage=storage, folder=folder, codecs=codecs
    )
    return [replay, Objective()]
