"""Losses of the form Σ_i w_i (log-sum-exp_j s_ij − mean_{j positive} s_ij) over rows, columns or both.

Forward keeps a maximum and a sum per row; backward recomputes the similarities. One pair of functions serves the
autograd node of eager mode and the operator that torch.compile sees.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._direct import applies, contrast_directly
from ._gradients import once
from ._inputs import as_scalar_tensor, number
from ._pairs import Pull, Side, pair_grads, pair_stats


class Terms(NamedTuple):
    """What a loss of this family says beside its rows and its scale; nothing here is differentiated."""

    row_ids: Tensor  # int64 [N]
    col_ids: Tensor  # int64 [M]
    row_weight: Any = None  # float, or float64 [N] or 0-d; None: rows have no term
    col_weight: Any = None
    row_share: Tensor | None = None  # float64 [N]: 1/|P(i)|, 0 without positives; None: one positive each
    col_share: Tensor | None = None
    reduce: bool = True
    symmetric: bool = False  # the columns are the rows, self left out
    precision: str = "auto"
    backend: str = "auto"
    packed: Any = None  # PackedReference whose rows b is


def _losses(side: Side, share: Tensor | None) -> Tensor:
    # The difference comes first: where the positive dominates, it and the logarithm are both small.
    if share is None:
        return torch.sub(side.max, side.pos).add_(side.sum.log())
    empty = side.sum == 0  # nothing to compare with: the row has no positive either
    side.sum, side.max = side.sum.masked_fill(empty, 1), side.max.masked_fill(empty, 0)
    return torch.sub(side.max, side.pos * share).add_(side.sum.log())


def loss_with_sums(a: Tensor, b: Tensor, scale: Any, t: Terms) -> tuple[Tensor, Side | None, Side | None]:
    """The loss (0-d, or per row) and the statistics that backward needs."""
    row, col = pair_stats(
        a,
        b if t.packed is None else t.packed,
        scale,
        row_ids=t.row_ids,
        col_ids=t.col_ids,
        rows=t.row_weight is not None,
        cols=t.col_weight is not None,
        exclude_self=t.symmetric,
        symmetric=t.symmetric,
        precision=t.precision,
        backend=t.backend,
    )
    value = None
    for side, weight, share in ((row, t.row_weight, t.row_share), (col, t.col_weight, t.col_share)):
        if side is not None:
            part = _losses(side, share)
            part = part.sum().mul_(weight) if t.reduce and _uniform(weight) else part.mul_(weight)
            part = part.sum() if part.ndim and t.reduce else part
            value = part if value is None else value.add_(part)
    return value.to(a.dtype if a.dtype == torch.float64 else torch.float32), row, col


def _uniform(weight: Any) -> bool:
    return not isinstance(weight, Tensor) or weight.ndim == 0


def _pull(top: Tensor, total: Tensor, g: Tensor, weight: Any, share: Tensor | None) -> Pull:
    dtype = top.dtype
    upstream = number(g) * weight if g.ndim == 0 else g.double() * weight
    if share is not None:
        positive = (share * upstream).to(dtype)
    elif isinstance(upstream, float):
        positive = torch.full_like(top, upstream)
    else:
        positive = upstream.to(dtype).expand_as(top)
    return Pull(top, (upstream / total).to(dtype), positive)


def gradients(
    g: Tensor,
    a: Tensor,
    b: Tensor,
    scale: Any,
    row: tuple[Tensor, Tensor] | None,
    col: tuple[Tensor, Tensor] | None,
    t: Terms,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """da and db in the dtypes of a and b, dscale float64, for the upstream gradient ``g`` (0-d, or per row)."""
    da, db, dscale = pair_grads(
        a,
        b if t.packed is None else t.packed,
        scale,
        _pull(*row, g, t.row_weight, t.row_share) if row is not None else None,
        _pull(*col, g, t.col_weight, t.col_share) if col is not None else None,
        row_ids=t.row_ids,
        col_ids=t.col_ids,
        need_a=need_a,
        need_b=need_b,
        exclude_self=t.symmetric,
        symmetric=t.symmetric,
        precision=t.precision,
        backend=t.backend,
    )
    return None if da is None else da.to(a.dtype), None if db is None else db.to(b.dtype), dscale


def contrast(op: str, a: Tensor, b: Tensor, scale: Any, terms: Terms) -> Tensor:
    """The loss with its gradients for a, b and scale; ``b is a`` where the terms are symmetric."""
    if torch.compiler.is_compiling():
        from ._softmax_op import contrast_registered

        return contrast_registered(a, b, as_scalar_tensor(scale, a), terms)
    if not torch.is_grad_enabled() or not (a.requires_grad or b.requires_grad or _learned(scale)):
        return loss_with_sums(a, b, number(scale), terms)[0]
    if applies(a, b, terms):
        return contrast_directly(op, a, b, scale, terms)
    return _Contrast.apply(op, a, b, scale, terms)


def _learned(scale: Any) -> bool:
    return isinstance(scale, Tensor) and scale.requires_grad


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: str, a: Tensor, b: Tensor, scale: Any, terms: Terms) -> Tensor:
        ctx.op, ctx.terms, ctx.scale = op, terms, number(scale)
        value, row, col = loss_with_sums(a, b, ctx.scale, terms)
        ctx.like = scale if isinstance(scale, Tensor) else None
        ctx.sides = (row is not None, col is not None)
        kept = [x for side in (row, col) if side is not None for x in (side.max, side.sum)]
        # Backward reads the labels again: saved, so that a change of them in between is noticed.
        ids = (x for x in (terms.row_ids, terms.col_ids) if not x.is_inference())
        ctx.save_for_backward(a, b, *kept, *ids)
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        a, b, *kept = ctx.saved_tensors
        row = (kept[0], kept[1]) if ctx.sides[0] else None
        first = 2 * ctx.sides[0]
        col = (kept[first], kept[first + 1]) if ctx.sides[1] else None
        need = ctx.needs_input_grad
        with torch.no_grad():
            grads = gradients(g, a, b, ctx.scale, row, col, ctx.terms, need[1], need[2] and not ctx.terms.symmetric)
            dscale = grads[2].to(ctx.like).reshape(ctx.like.shape) if need[3] else None
        return (None, *once(ctx.op, (a, b, g), (grads[0], grads[1], dscale)), None)
