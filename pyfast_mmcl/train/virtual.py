"""Gradients and losses beside the training step: the weights, buffers and gradients of the model stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from pyfast_mmcl.models import Output
from pyfast_mmcl.train.modes import evaluation_mode
from pyfast_mmcl.train.parts import check_labels

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch
    from pyfast_mmcl.train.learner import Learner

_HALF = (torch.float16, torch.bfloat16)


def gradients(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """{name: ∂ mean cross-entropy of ``batch`` / ∂θ} of the trainable parameters that take part.

    The model computes in the mode it is in, training during a step.
    """
    free = {name: p for name, p in learner.model.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        # In the precision of the weights: in float16 small gradients would vanish.
        loss = _row_losses(learner, batch, {}).mean()
        # Nothing is trainable, or nothing that the scores depend on.
        if not loss.requires_grad:
            return {}
        values = torch.autograd.grad(loss, list(free.values()), allow_unused=True)
    return {name: g for name, g in zip(free, values, strict=True) if g is not None}


def stepped(learner: Learner, gradient: Mapping[str, Tensor], lr: float) -> dict[str, Tensor]:
    """{name: θ − lr · gradient}: the parameters after one step of plain SGD."""
    with torch.no_grad():
        return {name: p - lr * gradient[name] for name, p in learner.model.named_parameters() if name in gradient}


@torch.no_grad()
def row_losses(learner: Learner, batch: Batch, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """Cross-entropy of every row [B] in evaluation mode, of the model or of one with ``weights`` in place of its own.

    Row i depends on row i of the batch alone; generated answers count by the mean over positions.
    """
    with evaluation_mode(learner.model):
        return _row_losses(learner, batch, dict(weights or {}))


def _row_losses(learner: Learner, batch: Batch, weights: dict[str, Tensor]) -> Tensor:
    # BatchNorm counts every pass in training mode: it may do so in copies.
    buffers = {name: buffer.clone() for name, buffer in learner.model.named_buffers()}
    out = functional_call(learner.model, {**buffers, **weights}, (batch,))
    scores = out.scores if isinstance(out, Output) else out
    scores = scores.float() if scores.dtype in _HALF else scores
    check_labels(scores, batch.target)
    rows = cross_entropy(scores.flatten(0, -2), batch.target.flatten(), reduction="none")
    return rows.reshape(len(batch), -1).mean(1)
