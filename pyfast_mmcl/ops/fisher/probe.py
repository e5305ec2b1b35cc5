"""Two tiny batches before the first real one: where samples lie in every tensor, and that they do not mix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from .calls import Call
from .capture import Capture
from .engine import Engine, frozen
from .rows import count_rows, take_rows

LOOKS = 16
# One sample three times tells orders apart: a row that belongs to the same place of the first and the last copy
# cannot be explained both ways. Two different samples show whether they mix.
COPIES, PAIR = 3, 2


def probe(engine: Engine, batch: Any) -> None:
    """Learn the engine's plan from the first samples of ``batch``.

    Raises InputError when samples cannot be picked from the batch, when the loss of one sample reaches a layer at
    another sample, or reads a parameter in a way that hides its layer.
    """
    samples = count_rows(batch)
    if samples is None:
        raise InputError(
            f"batches: cannot tell the samples of a {type(batch).__name__} apart; give tensors [B, …] of one B in "
            "tuples, lists, dicts or dataclasses, or an object with inputs, target and select(rows)."
        )
    pair, copies = take_rows(batch, [0, 1 % samples]), take_rows(batch, [0] * COPIES)
    for _ in range(LOOKS):
        with _look(engine, pair, PAIR) as first, _look(engine, copies, COPIES, freeze=True) as second:
            if engine.plan.learn(first.capture.shapes, PAIR, second.capture.shapes, COPIES):
                continue
            if engine.plan.ambiguous:
                second.send_back(0)
                second.send_back(COPIES - 1)
            first.check_seen()
            second.check_unmixed()
            return
    raise InputError("model: its layers change from one forward pass to the next; fix their order and number.")


@contextlib.contextmanager
def _look(engine: Engine, batch: Any, samples: int, *, freeze: bool = False) -> Iterator[_Look]:
    look = _Look(engine, samples)
    try:
        with frozen(engine.model) if freeze else contextlib.nullcontext():
            look.run(batch)
        yield look
    finally:
        look.close()


class _Look:
    """A forward pass on a few samples, and backward passes of one sample's loss at a time."""

    def __init__(self, engine: Engine, samples: int) -> None:
        self._engine, self._samples, self._sample = engine, samples, 0
        self.capture = Capture(engine.params, engine.plan, self._settle)

    def run(self, batch: Any) -> None:
        """The forward pass."""
        self._losses, self._weights = self._engine.trace(batch, self.capture)[0]
        if len(self._losses) != self._samples:
            raise InputError(
                f"loss: expected one value for each of {self._samples} samples, got {len(self._losses)}; "
                "sum over everything that belongs to one sample."
            )
        for call in self.capture.calls:
            call.samples = self._samples

    def close(self) -> None:
        """Let go of the graph."""
        self.capture.close()
        self._losses = self._weights = torch.zeros(0)

    def send_back(self, sample: int, inputs: Sequence[Tensor] = ()) -> tuple[Tensor | None, ...]:
        """Gradients of the loss of one sample; on its way the layouts are settled."""
        if not self._losses.requires_grad:
            return (None,) * len(inputs)
        self._sample = sample
        alone = torch.zeros_like(self._weights)
        alone[sample] = self._weights[sample]
        inputs = [self.capture.anchor, *inputs]
        return torch.autograd.grad(self._losses, inputs, alone, allow_unused=True, retain_graph=True)[1:]

    def check_seen(self) -> None:
        """Raise InputError when the loss reaches other samples, or a parameter by a way that was not seen."""
        wanted = {name: p for name, p in self._engine.params.items() if p.requires_grad}
        # the second sample alone may read the first, as in a causal model that takes the batch for time
        self.send_back(1, list(wanted.values()))
        for name, g in zip(wanted, self.send_back(0, list(wanted.values())), strict=True):
            if g is not None:
                raise InputError(
                    f"{name}: read by code that hides its layer (a compiled or scripted module, an autograd.Function); "
                    "use the plain module, or leave it out with params=."
                )

    def check_unmixed(self) -> None:
        """Raise InputError when a parameter meets something computed from the samples that is the same for all."""
        if self.capture.mixed:
            raise mixed(self.capture.mixed[0])

    def _settle(self, call: Call, grads: list[Tensor | None]) -> None:
        """Choose the layout under which the gradient of one sample's loss is zero at every other sample."""
        others = [b for b in range(self._samples) if b != self._sample]
        plan = self._engine.plan
        for place, g in enumerate(grads):
            if g is None or not bool(g.any()):
                continue
            if not bool(g.isfinite().all()):
                raise InputError(
                    f"{call.key}: the gradient of the first samples is NaN or infinite here; look for such values in "
                    "the inputs and the parameters."
                )
            fitting = [
                layout
                for layout in plan.out_candidates(call.key, place)
                if layout.fits(g, self._samples) and not bool(layout.rows(g, self._samples)[others].any())
            ]
            if not fitting:
                raise mixed(call.key)
            plan.choose(call.key, place, fitting)


def mixed(key: str) -> InputError:
    """The error for samples that reach each other at the call ``key``."""
    return InputError(
        f"{key}: the loss of one sample depends on other samples of its batch here (an in-batch contrastive loss, a "
        "statistic over the batch, a loop over its rows), so it has no Fisher of its own; let each sample's loss read "
        "only that sample, with others held constant by .detach()."
    )
