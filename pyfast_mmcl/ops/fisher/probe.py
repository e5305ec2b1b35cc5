"""Small batches before the first real one: where samples lie in every tensor, that they do not mix, and that the

gradient of one of them, found call by call, is the one that plain autograd finds.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from .accumulate import SquareSums
from .alone import Witness, mixed, not_finite, picked
from .calls import Call
from .capture import Capture
from .engine import Engine, frozen, thawed
from .graph import backward, leaves
from .randomness import calm, replayed
from .rows import count_rows, take_rows
from .rules import contributions

LOOKS = 16
# One sample three times tells orders apart: a row that belongs to the same place of the first and the last copy
# cannot be explained both ways. Two others show whether they mix: the last and the second, which no reversal, shift or
# statistic of the whole batch brings together as it does here.
COPIES, PAIR = 3, 2
# Differences of squared gradients that rounding explains, as a share of their sum, by the coarsest numbers in use.
SHARES = ((1e-12, 1e-6), (1e-5, 1e-2), (1.0, 0.3))


def probe(engine: Engine, batch: Any) -> None:
    """Learn the engine's plan from three samples of ``batch``.

    Raises InputError when samples cannot be picked from the batch, when the loss of one sample reaches a layer at
    another sample, when a parameter is read in a way that hides its layer, or when a gradient is not autograd's.
    """
    samples = count_rows(batch)
    if samples is None:
        raise InputError(
            f"batches: cannot tell the samples of a {type(batch).__name__} apart; give tensors [B, …] of one B in "
            "tuples, lists, dicts or dataclasses, or an object with inputs, target and select(rows)."
        )
    rows = [samples - 1, int(samples > PAIR)]
    pair, copies = take_rows(batch, rows), take_rows(batch, [0] * COPIES)
    for _ in range(LOOKS):
        with _look(engine, pair, PAIR) as first, _look(engine, copies, COPIES, freeze=True) as second:
            _check_touched(first.capture.touched ^ second.capture.touched)
            if engine.plan.learn(first.capture.shapes, PAIR, second.capture.shapes, COPIES):
                continue
            if engine.plan.ambiguous:
                second.send_back(0)
                second.send_back(COPIES - 1)
            second.check_unmixed()
            # the second sample alone may read the first, as in a causal model that takes the batch for time
            first.send_back(1)
            _compare(engine, pair, first, first.check_seen())
            if first.drew:
                _compare_calm(engine, batch, (pair, rows), (copies, [0] * COPIES))
            else:
                engine.witness = Witness((first.outputs, rows), (second.outputs, [0] * COPIES))
            return
    raise InputError("model: its layers change from one forward pass to the next; fix their order and number.")


def _check_touched(names: set[str]) -> None:
    """Raise InputError for parameters that only one of two forward passes has read."""
    if names:
        raise InputError(
            f"{', '.join(sorted(names))}: read in one forward pass and not in another (a value kept from an earlier "
            "pass, a layer that depends on the data); clear what the model caches, or leave it out with params=."
        )


@contextlib.contextmanager
def _look(engine: Engine, batch: Any, samples: int, *, freeze: bool = False) -> Iterator[_Look]:
    look = _Look(engine, samples)
    try:
        with frozen(engine.model), contextlib.nullcontext() if freeze else thawed(engine.params):
            look.run(batch)
        yield look
    finally:
        look.close()


class _Look:
    """A forward pass on a few samples, and backward passes of one sample's loss at a time."""

    def __init__(self, engine: Engine, samples: int) -> None:
        self._engine, self._samples, self._sample = engine, samples, 0
        self._squares: SquareSums | None = None
        self._strangers: list[Tensor] = []
        self.capture = Capture(engine.params, engine.plan, self._settle, traced=True)

    def run(self, batch: Any) -> None:
        """The forward pass."""
        with replayed(self._engine.params.values()) as drawn:
            self.outputs, pairs = self._engine.trace(batch, self.capture)
        self.drew = drawn.any
        self.losses, self._weights = pairs[0]
        known = {id(self.capture.anchor), *(id(s.value) for s in self.capture.shared.found())}
        self._strangers = [t for t in leaves(self.losses) if id(t) not in known]
        self._engine.strangers |= bool(self._strangers)
        if len(self.losses) != self._samples:
            raise InputError(
                f"loss: expected one value for each of {self._samples} samples, got {len(self.losses)}; "
                "sum over everything that belongs to one sample."
            )
        for call in self.capture.calls:
            call.samples = self._samples

    def close(self) -> None:
        """Let go of the graph."""
        self.capture.close()
        self.losses = self._weights = torch.zeros(0)
        self.outputs, self._strangers = None, []

    def send_back(self, sample: int, inputs: Sequence[Tensor] = ()) -> tuple[Tensor | None, ...]:
        """Gradients of the loss of one sample; on its way the layouts are settled."""
        if not self.losses.requires_grad:
            return (None,) * len(inputs)
        self._sample = sample
        ends = [*inputs, self.capture.anchor, *self._strangers]
        return backward(self.losses, ends, only(self._weights, sample), retain_graph=True)[: len(inputs)]

    def check_seen(self) -> SquareSums:
        """Raise InputError when the loss reaches other samples, or a parameter by a way that was not seen.

        Returns the squared gradient of the first sample's loss.
        """
        self._squares = squares = SquareSums(self._engine.params, False, "auto")
        squares.begin(self.capture.shared, self.capture.calls)
        with thawed(self._engine.params):
            traced = [s for s in self.capture.shared.found() if s.value.requires_grad]
            grads = self.send_back(0, [s.value for s in traced])
        for shared, g in zip(traced, grads, strict=True):
            if g is not None:
                raise InputError(
                    f"{', '.join(shared.leaves)}: read by code that hides its layer (a compiled or scripted module, an "
                    "autograd.Function); use the plain module, or leave it out with params=."
                )
        squares.end()
        return squares

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
                raise not_finite(call.key)
            fitting = [
                layout
                for layout in plan.out_candidates(call.key, place)
                if layout.fits(g, self._samples) and not bool(layout.rows(g, self._samples)[others].any())
            ]
            if not fitting:
                raise (picked if self.capture.selected else mixed)(call.key)
            plan.choose(call.key, place, fitting)
        if self._squares is not None:
            for target, part in contributions(call, grads):
                self._squares.add(target, part)


def _compare(engine: Engine, pair: Any, look: _Look, squares: SquareSums) -> None:
    """Raise InputError when the first sample's squared gradient is not the square of autograd's own."""
    with replayed(engine.params.values()), thawed(engine.params), torch.enable_grad():
        _, pairs = engine.trace(pair, contextlib.nullcontext())
        losses, weights = pairs[0]
        grads = backward(losses, list(engine.params.values()), only(weights, 0)) if losses.requires_grad else []
    share = next(s for bound, s in SHARES if look.capture.coarsest <= bound)
    if not torch.allclose(losses, look.losses, rtol=share, atol=share):
        warnings.warn(
            "fisher: the model answers differently from one pass to the next (random numbers of its own, a state it "
            "keeps), so its gradients were not compared with autograd's; call model.eval() first.",
            stacklevel=2,
        )
        return
    truths = {n: torch.zeros_like(t) for n, t in squares.totals.items()}
    for (name, t), g in zip(truths.items(), grads, strict=False):
        truths[name] = t if g is None else g.to(t.dtype).square()
    sums = {n: float(t.sum()) for n, t in truths.items()}
    # below this, the rounding of terms that cancel decides
    least = min(1e-2, (1e3 * look.capture.coarsest) ** 2) * max(sums.values(), default=0.0)
    for name, truth in truths.items():
        if float((squares.totals[name] - truth).abs().sum()) > share * (sums[name] + least):
            raise InputError(
                f"{name}: the gradient of a sample, found layer by layer, is not the one of plain autograd; a layer "
                "reads it in a way that is not understood. Leave it out with params=."
            )


def _compare_calm(engine: Engine, batch: Any, *small: tuple[Any, list[int]]) -> None:
    """Compare a few samples with a whole batch where dropout forbids to compare the passes that count."""
    params = list(engine.params.values())
    with torch.no_grad(), calm(engine.model), replayed(params) as drawn:
        witness, outputs = Witness(*((engine.answer(few), rows) for few, rows in small)), engine.answer(batch)
    if not drawn.any:
        witness.check(outputs)


def only(weights: Tensor, sample: int) -> Tensor:
    """``weights`` of one sample, zero for all others."""
    alone = torch.zeros_like(weights)
    alone[sample] = weights[sample]
    return alone
