"""Two tiny batches before the first real one: where samples lie in every tensor, and that they do not mix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from .calls import Call
from .capture import Capture
from .engine import Engine
from .rows import count_rows, take_rows

LOOKS = 16


def probe(engine: Engine, batch: Any) -> None:
    """Learn the engine's plan from the first samples of ``batch``; a batch of unknown make is left to guesses.

    Raises InputError when the loss of one sample reaches a layer at another sample, or reads a parameter in a way
    that hides its layer.
    """
    samples = count_rows(batch)
    if not samples:
        return
    small, large = ([i % samples for i in range(n)] for n in (2, 3))
    for _ in range(LOOKS):
        first, pairs = _look(engine, take_rows(batch, small))
        second, _ = _look(engine, take_rows(batch, large))
        if not engine.plan.learn(first.shapes, 2, second.shapes, 3):
            break
    else:
        raise InputError(
            "model: its layers change from one forward pass to the next; per-sample gradients need them fixed."
        )
    _check(engine, first, pairs)


def _look(engine: Engine, batch: Any) -> tuple[Capture, list[tuple[Tensor, Tensor]]]:
    capture = Capture(engine.params, engine.plan, lambda call, grads: _settle(engine, call, grads))
    pairs = engine.trace(batch, capture)
    if len(pairs[0][0]) != len(batch_rows := range(count_rows(batch))):
        raise InputError(
            f"loss: expected one value for each of {len(batch_rows)} samples, got {len(pairs[0][0])}; "
            "sum over everything that belongs to one sample."
        )
    return capture, pairs


def _check(engine: Engine, capture: Capture, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Send back the loss of sample 0 alone; what it reaches settles the layouts."""
    for call in capture.calls:
        call.samples = 2
    losses, weights = pairs[0]
    if not losses.requires_grad:
        return
    wanted = {name: p for name, p in engine.params.items() if p.requires_grad}
    alone = weights.clone()
    alone[1:] = 0
    inputs = [capture.anchor, *wanted.values()]
    _, *grads = torch.autograd.grad(losses, inputs, alone, allow_unused=True)
    seen = {name for call in capture.calls for s in call.targets for name in s.leaves}
    for (name, _), g in zip(wanted.items(), grads, strict=True):
        if g is not None and name not in seen:
            raise InputError(
                f"{name}: read by code that hides its layer (a compiled or scripted module); use the plain module, "
                "or leave it out with params=."
            )


def _settle(engine: Engine, call: Call, grads: list[Tensor | None]) -> None:
    """Choose the layout under which the gradient of sample 0's loss is zero at every other sample."""
    for place, g in enumerate(grads):
        if g is None or not bool(g.any()):
            continue
        fitting = [
            layout
            for layout in engine.plan.out_candidates(call.key, place)
            if layout.fits(g, 2) and not bool(layout.rows(g, 2)[1:].nan_to_num().any())
        ]
        if not fitting:
            raise InputError(
                f"{call.key}: the loss of one sample depends on other samples of its batch here (an in-batch "
                "contrastive loss, a statistic over the batch), so it has no Fisher of its own; let each sample's "
                "loss read only that sample, with others held constant by .detach()."
            )
        engine.plan.choose(call.key, fitting[0])
