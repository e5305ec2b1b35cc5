"""A sample's answer, its loss and its gradient are its own: what the first real batches are checked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from .calls import Call
from .layout import Layout
from .shared import tensors_in

# Relative differences that rounding explains, by the precision of the numbers compared.
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3}
HALF = 5e-2
# Factors of the samples' losses in the second backward pass differ by at least a sixth.
FACTORS, TELLING = 7, 0.05


def mixed(key: str) -> InputError:
    """The error for samples that reach each other at the call ``key``."""
    return InputError(
        f"{key}: the loss of one sample depends on other samples of its batch here (an in-batch contrastive loss, a "
        "statistic over the batch, a loop over its rows), so it has no Fisher of its own; let each sample's loss read "
        "only that sample, with others held constant by .detach()."
    )


def picked(key: str) -> InputError:
    """The error for rows of which it cannot be told whose they are."""
    return InputError(
        f"{key}: reads rows that were picked or sorted by their data (a mask, an index, a packed sequence), so nobody "
        "can tell which row belongs to which of the samples; keep one row per sample in the order of the batch "
        "(padding, and a mask that multiplies), or leave its parameters out with params=."
    )


def not_finite(key: str) -> InputError:
    """The error for gradients that are NaN or infinite at the call ``key``."""
    return InputError(
        f"{key}: the gradient of the first samples is NaN or infinite here; look for such values in the inputs and the "
        "parameters."
    )


class Witness:
    """Outputs of two small batches, to be compared with those of the same samples among a whole batch.

    small: (outputs, rows) of each, of different sizes; rows: where its samples lie in the whole batch.
    """

    def __init__(self, *small: tuple[Any, Sequence[int]]) -> None:
        self._small = [([t.detach() for t in tensors_in(outputs)], list(rows)) for outputs, rows in small]
        (first, n), (second, m) = ((tensors, len(rows)) for tensors, rows in self._small)
        self._dims = [_batch_dim(x, y, n, m) for x, y in zip(first, second, strict=False)]

    def check(self, outputs: Any, losses: Tensor | None = None) -> None:
        """Raise InputError when an output changes with the rest of its batch, or a loss reads other rows of it."""
        found = list(zip(tensors_in(outputs), self._dims, strict=False))
        for i, (many, dim) in enumerate(found):
            if dim is None or not many.is_floating_point():
                continue
            for tensors, rows in self._small:
                few, same = tensors[i].movedim(dim, 0), many.detach().movedim(dim, 0)[rows]
                if few.shape == same.shape:
                    _check_same(few, same)
        if losses is not None and losses.requires_grad:
            self._own_rows([(t, dim) for t, dim in found if dim is not None and t.requires_grad], losses)

    def _own_rows(self, outputs: list[tuple[Tensor, int]], losses: Tensor) -> None:
        """The gradient of a loss is zero at the outputs of other samples; this stops at the outputs."""
        rows = {row for _, rows in self._small for row in rows} if outputs else ()
        for row in sorted(rows):
            alone = torch.zeros_like(losses)
            alone[row] = 1
            found = torch.autograd.grad(losses, [t for t, _ in outputs], alone, retain_graph=True, allow_unused=True)
            for g, (_, dim) in zip(found, outputs, strict=True):
                if g is None:
                    continue
                if not bool(g.isfinite().all()):
                    raise not_finite("loss")
                if bool(g.movedim(dim, 0)[alone == 0].any()):
                    raise mixed("loss")


def _check_same(few: Tensor, many: Tensor) -> None:
    x, y = few.double(), many.double()
    finite = x.isfinite() & y.isfinite()  # classes that are masked may be infinite, or nearly
    size = torch.maximum(x.abs(), y.abs())[finite]
    if not size.numel():
        return
    usual = torch.minimum(size.max(), 10 * size.median()) if size.median() > 0 else size.max()
    if bool(((x - y).abs()[finite] > ROUNDING.get(few.dtype, HALF) * (size + usual)).any()):
        raise InputError(
            "model: its outputs for a sample change with the other samples of the batch (a statistic over the "
            "batch, torch.roll or flip along it, rows that read other rows), so a sample has no Fisher of its "
            "own; normalise with fixed statistics, and let each output read only its sample."
        )


def _batch_dim(x: Tensor, y: Tensor, n: int, m: int) -> int | None:
    """The one dimension that follows the number of samples, or None when there is none or more than one."""
    if x.ndim != y.ndim:
        return None
    differ = [d for d in range(x.ndim) if x.shape[d] != y.shape[d]]
    known = len(differ) == 1 and (x.shape[differ[0]], y.shape[differ[0]]) == (n, m)
    return differ[0] if known else None


class Owners:
    """Whether every row of every gradient belongs to the sample that its layout says.

    The batch is sent back twice, the first time with another factor for each sample's loss: the gradient at a row of
    sample b must be factors[b] times that of the second time. For models that pick rows by their data.
    """

    def __init__(self, samples: int, like: Tensor) -> None:
        b = torch.arange(samples, device=like.device)
        self.factors = 1 + ((3 * b + b // FACTORS) % FACTORS).to(like.dtype) / (FACTORS - 1)
        self._lengths: dict[tuple[int, int], Tensor] = {}

    def note(self, call: Call, grads: list[Tensor | None]) -> None:
        """The pass with factors."""
        for place, g in enumerate(grads):
            if g is not None:
                self._lengths[id(call), place] = _lengths(call, g, place)

    def compare(self, call: Call, grads: list[Tensor | None]) -> None:
        """The pass without; raises InputError at a row of another sample."""
        for place, g in enumerate(grads):
            if g is None or (id(call), place) not in self._lengths:
                continue
            expected = _lengths(call, g, place) * self.factors[:, None].double()
            wrong = (self._lengths[id(call), place] - expected).abs() > TELLING * expected + 1e-6 * expected.max()
            if bool(wrong.any()):
                raise picked(call.key)


def _lengths(call: Call, g: Tensor, place: int) -> Tensor:
    """The length of the gradient at every row of every sample, [B, k]."""
    layout = call.out_layout(g, place)
    rows = g.double().movedim(layout.dim, 0).flatten(1) if g.ndim > 1 else g.double()[:, None]
    return Layout(0, layout.major).rows(rows.norm(dim=1), call.samples)
