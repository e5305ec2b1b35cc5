"""Batches in an order that depends on (seed, task, epoch) alone, readable from any position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyfast_mmcl._errors import whole_number
from pyfast_mmcl.data.batch import Batch
from pyfast_mmcl.ops.sampling import fold_seed, reservoir_keys

if TYPE_CHECKING:
    from pyfast_mmcl.data.stream import Stream


class Loader:
    """The batches of some rows of a stream. ``loader[i]`` is batch i: a resumed run starts at any i without replay.

    rows [n] are global example ids. ``seed=None`` keeps the order of the ids; otherwise row order is that of the hash
    keys of (seed, epoch, id), so it depends on nothing else. The last batch may be smaller.
    """

    def __init__(
        self,
        stream: Stream,
        rows: Tensor,
        *,
        batch_size: int = 32,
        seed: int | None = None,
        epoch: int = 0,
        hide_task: bool,
    ) -> None:
        self.batch_size = whole_number("batch_size", batch_size)
        self._stream = stream
        self._hide_task = hide_task
        self._rows = rows if seed is None else rows[reservoir_keys(fold_seed(seed, epoch), rows).argsort()]

    def __len__(self) -> int:
        return -(-len(self._rows) // self.batch_size)

    @property
    def n_rows(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self):
            raise IndexError(i)
        rows = self._rows[i * self.batch_size : (i + 1) * self.batch_size]
        inputs, present, target = self._stream.gather(rows)
        task = torch.full_like(rows, -1) if self._hide_task else self._stream.task_of[rows]
        return Batch(inputs, target, task, present, rows)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))
