"""Logits kept beside the rows of a memory, and the distance of a model from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.data import Batch
from pyfast_mmcl.ops.sampling import fold_seed, hash_uniform
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Replay, memory_rows

if TYPE_CHECKING:
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

PASSES = ("drawn", "latest", "first")
_NAME = "logits"
# How many classes the head had when the row was scored.
_WIDTH = "width"
# A task-incremental head masks with the lowest number of its precision; float16 has the least negative one.
_MASKED = torch.finfo(torch.float16).min
# Place of the passes in the tree of seeds: they must not follow the keys by which rows enter.
_PASS = 101


class ReplayLogits(Replay):
    """Replay that keeps beside every row its scores in a training forward pass, stored after the step of that pass.

    logits  which pass, of the epochs of the row's task: "drawn", any of them alike (until then, the latest); "latest";
            or "first", that with which the row entered. With one epoch they are the same.
    other arguments: those of Replay

    A head may grow: the column of scores is widened with it, and a row says how many of its entries are its own.
    """

    def __init__(self, capacity: int | None, *, logits: str = "drawn", **how: Any) -> None:
        if logits not in PASSES:
            raise unknown_name("choice of the pass whose logits are kept", logits, PASSES)
        super().__init__(capacity, **how)
        self.logits = logits

    def extras(self, learner: Learner, batch: Batch, out: Output) -> dict[str, Tensor]:
        scores = out.scores[: batch.fresh]
        # What a head masks is no answer, and the lowest float would overflow in a narrower column.
        z = scores.masked_fill(scores <= _MASKED, 0.0)
        width = torch.full_like(batch.index[: batch.fresh], scores.shape[-1])
        return {**super().extras(learner, batch, out), _NAME: z, _WIDTH: width}

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        # Rows drawn for this step show what the memory holds; without any it is empty.
        if _NAME in batch.extras and batch.extras[_NAME].shape[-1] < out.scores.shape[-1]:
            self.memory_.widen(_NAME, out.scores.shape[-1])
        super().after_step(learner, batch, out)
        if self.logits == "first" or learner.epoch == 0:
            return
        index = batch.index[: batch.fresh]
        extras = self.extras(learner, batch, out)
        if self.logits == "drawn":
            last = hash_uniform(fold_seed(learner.seed, _PASS), index) * learner.epochs
            again = learner.epoch <= last.floor()
            index, extras = index[again], {name: x[again] for name, x in extras.items()}
        self.memory_.update(index, extras)


class StoredLogits(Part):
    """weight · ‖z − scores‖² / C on rows of memory, z their stored scores [C]; the mean over rows (and positions).

    Classes that a head has got since, and those that a task-incremental head masks, are left out of the row.
    draw, draws: only the rows of this one of so many draws.
    """

    def __init__(self, weight: float = 1.0, *, draw: int = 0, draws: int = 1) -> None:
        self.weight = weight
        self.draw, self.draws = draw, draws

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        rows = memory_rows(batch, self.draw, self.draws)
        if rows.start == rows.stop:
            return None
        old = slice(rows.start - batch.fresh, rows.stop - batch.fresh)
        z = batch.extras[_NAME][old]
        _check_width(z.shape[-1], out.scores)
        scores = out.scores[rows][..., : z.shape[-1]]
        width = batch.extras[_WIDTH][old].reshape(-1, *[1] * (scores.ndim - 1))
        counts = (torch.arange(z.shape[-1], device=z.device) < width) & (scores > _MASKED)
        squares = torch.where(counts, scores - z, 0.0).square().sum(-1)
        return self.weight * (squares / counts.sum(-1).clamp(min=1)).mean()


def _check_width(stored: int, scores: Tensor) -> None:
    if scores.shape[-1] < stored:
        raise InputError(
            f"replay of logits: the memory holds scores of {stored} classes and the head has {scores.shape[-1]}; "
            f"a head may grow, not shrink."
        )
