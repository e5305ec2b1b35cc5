"""Per-row losses of a ring as differentiable functions of the own rows, and what reductions over ranks need.

`RingRows` is an exact adjoint over all ranks: the gradient of the own rows is that of Σ_ranks ⟨upstream, losses⟩,
whatever the upstream gradient of each rank is. What a mean over ranks makes of it is ordinary arithmetic on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._gradients import once
from ._inputs import number
from ._pairs import Pull
from ._ring_passes import Ring, ring_grads, ring_siglip, ring_stats
from ._ring_self import self_grads, self_stats
from ._softmax import _losses as losses_of
from ._softmax import _pull as pull_of


@dataclass(frozen=True)
class Sides:
    """What `RingRows` and `RingSelf` compute."""

    ring: Ring
    rows: bool  # losses of the rows are wanted
    cols: bool
    row_share: Tensor | None  # float64 [N]: 1/|P(i)| over all ranks; None: one positive each
    col_share: Tensor | None  # float64 [M]
    scale_gradient: str = "mean"  # of the shares over the ranks, or "sum"; "share": that of the own pairs


class RingRows(torch.autograd.Function):
    """(a [N, D], b [M, D], scale) → losses of the rows [N] and of the columns [M] over all ranks, float64, or None."""

    @staticmethod
    def forward(ctx: Any, op: str, a: Tensor, b: Tensor, scale: Any, sides: Sides) -> tuple[Tensor | None, ...]:
        """One sweep for the statistics."""
        ctx.op, ctx.sides, ctx.scale, ctx.like = op, sides, number(scale), scale
        row, col = ring_stats(sides.ring, a, b, ctx.scale, rows=sides.rows, cols=sides.cols)
        values = (
            None if row is None else losses_of(row, sides.row_share),
            None if col is None else losses_of(col, sides.col_share),
        )
        kept = [x for side in (row, col) if side is not None for x in (side.max, side.sum)]
        ctx.save_for_backward(a, b, *kept)
        return values

    @staticmethod
    def backward(ctx: Any, g_row: Tensor | None, g_col: Tensor | None) -> tuple[Tensor | None, ...]:
        """One more sweep: similarities are recomputed, never stored."""
        a, b, *kept = ctx.saved_tensors
        s: Sides = ctx.sides
        row = _pull(kept[:2], g_row, s.row_share) if s.rows else None
        col = _pull(kept[-2:], g_col, s.col_share) if s.cols else None
        need_a, need_b, need_scale = ctx.needs_input_grad[1:4]
        with torch.no_grad():
            da, db, dscale = ring_grads(s.ring, a, b, ctx.scale, row, col, need_a=need_a, need_b=need_b)
            if need_scale:
                dscale = _spread(s.ring, dscale, s.scale_gradient)
            grads = (_like(da, a), _like(db, b), _like(dscale, ctx.like) if need_scale else None)
        upstream = [g for g in (g_row, g_col) if g is not None]
        return (None, *once(ctx.op, (a, b, *upstream), grads), None)


class RingSelf(torch.autograd.Function):
    """(z [N, D], scale) → losses of the own rows [N] over the rows of all ranks but themselves, float64."""

    @staticmethod
    def forward(ctx: Any, op: str, z: Tensor, scale: Any, sides: Sides) -> Tensor:
        """Half a turn for the statistics."""
        ctx.op, ctx.sides, ctx.scale, ctx.like = op, sides, number(scale), scale
        row = self_stats(sides.ring, z, ctx.scale)
        losses = losses_of(row, sides.row_share)
        ctx.save_for_backward(z, row.max, row.sum)
        return losses

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Half a turn more."""
        z, *kept = ctx.saved_tensors
        need_z, need_scale = ctx.needs_input_grad[1:3]
        with torch.no_grad():
            dz, dscale = self_grads(ctx.sides.ring, z, ctx.scale, _pull(kept, g, ctx.sides.row_share), need_z)
            if need_scale:
                dscale = _spread(ctx.sides.ring, dscale, ctx.sides.scale_gradient)
            grads = (_like(dz, z), _like(dscale, ctx.like) if need_scale else None)
        return (None, *once(ctx.op, (z, g), grads), None)


class RingSigLIP(torch.autograd.Function):
    """(a [N, D], b [M, D], scale, bias) → the own rows' part of Σ_ij softplus(−y_ij s_ij), 0-d float64.

    Value and gradients come from one sweep, so the upstream gradient must be the same on every rank.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Any, bias: Any, ring: Ring, scale_gradient: str) -> Tensor:
        """The sweep; gradients are kept where they are wanted."""
        need_a, need_b, *need = ctx.needs_input_grad[:4]
        value, da, db, *numbers = ring_siglip(ring, a, b, number(scale), number(bias), need_a=need_a, need_b=need_b)
        if any(need):
            numbers = list(_spread(ring, torch.stack(numbers), scale_gradient))
        kept = [
            _like(x, like) if wanted else None for x, like, wanted in zip(numbers, (scale, bias), need, strict=True)
        ]
        ctx.save_for_backward(a, b, _like(da, a), _like(db, b), *kept)
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """The kept gradients times the upstream one."""
        a, b, *kept = ctx.saved_tensors
        with torch.no_grad():
            grads = [x if x is None else x * g for x in kept]
        grads = [x if x is None else x.to(k.dtype) for x, k in zip(grads, kept, strict=True)]
        return (*once("siglip", (a, b, g), grads), None, None)


class SumOverRanks(torch.autograd.Function):
    """Sum of x over the ranks, in rank order; the gradient of the own x is the own upstream gradient × ``factor``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ring: Ring, factor: float) -> Tensor:
        """Gather and add: the same bits on every rank."""
        ctx.factor = factor
        return ring.wire.total(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        """Each rank answers for its own part of the sum."""
        return g * ctx.factor, None, None


def _pull(kept: list[Tensor], g: Tensor | None, share: Tensor | None) -> Pull:
    top, total = kept
    return pull_of(top, total, torch.zeros_like(total) if g is None else g, 1.0, share)


def _spread(ring: Ring, gradient: Tensor, how: str) -> Tensor:
    """The gradient of numbers that all ranks hold: the own share, or the sum or mean of the shares."""
    if how == "share":
        return gradient
    total = ring.wire.total(gradient)
    return total / ring.wire.world if how == "mean" else total


def _like(gradient: Tensor | None, x: Tensor) -> Tensor | None:
    return None if gradient is None else gradient.to(x).reshape(x.shape)
