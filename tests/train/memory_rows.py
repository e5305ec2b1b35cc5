"""Rows for the tests of memories: their values can be told from their ids."""

from __future__ import annotations

import torch

from pyfast_mmcl.data import Batch
from tests.check import assert_same_bits


def rows(index, modalities=("image", "text")):
    """Rows of ``index``; every third one lacks the last modality."""
    index = torch.as_tensor(index, dtype=torch.int64)
    present = {m: torch.ones(len(index), dtype=torch.bool) for m in modalities}
    present[modalities[-1]] = index % 3 != 0
    inputs = {
        "image": index[:, None, None].float().expand(-1, 2, 2).contiguous(),
        "text": torch.stack([index, index + 1], 1),
        "sound": torch.stack([index, -index, index * 2], 1).double(),
    }
    inputs = {m: inputs[m] * present[m].reshape(-1, *[1] * (inputs[m].ndim - 1)) for m in modalities}
    return Batch(inputs, index % 7, index // 100, present, index)


def fill(memory, index, batch_size, **columns):
    """Offer ``index`` in batches; columns {"extras" or "hints": function of ids that gives {name: values}}."""
    for start in range(0, len(index), batch_size):
        batch = rows(index[start : start + batch_size])
        memory.add(batch, **{kind: make(batch.index) for kind, make in columns.items()})
    return memory


def assert_same_rows(a: Batch, b: Batch) -> None:
    """The same rows in the same order, bit for bit."""
    for name in ("target", "task", "index"):
        assert_same_bits(getattr(a, name), getattr(b, name))
    for kind in ("inputs", "present", "extras"):
        mine, theirs = getattr(a, kind), getattr(b, kind)
        assert set(mine) == set(theirs), f"{kind}: {sorted(mine)} against {sorted(theirs)}"
        for name in mine:
            assert_same_bits(mine[name], theirs[name])


def assert_same_memory(a, b) -> None:
    assert_same_rows(a.all(), b.all())
