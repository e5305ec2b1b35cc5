"""The distillation loss as an operator: what torch.compile sees instead of Python."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _kl
from ._inputs import number
from ._kl import KLTerms


def _float(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@torch.library.custom_op("pyfast_mmcl::similarity_kl", mutates_args=())
def _forward(
    sa: Tensor,
    sb: Tensor,
    s_scale: Tensor,
    ta: Tensor,
    tb: Tensor,
    t_scale: Tensor,
    row_weight: float | None,
    col_weight: float | None,
    reduce: bool,
    exclude_diagonal: bool,
    skip_wrong: bool,
    precision: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    terms = KLTerms(row_weight, col_weight, reduce, exclude_diagonal, skip_wrong, precision, backend)
    value, row, col = _kl.loss_with_sums(sa, sb, ta, tb, number(s_scale), number(t_scale), terms)
    return (value, *_stacked(row, sa), *_stacked(col, sa))


def _stacked(kept: list[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    # Maxima of student and teacher [2, N], and their shares.
    if not kept:
        return like.new_empty((2, 0), dtype=_float(like)), like.new_empty((2, 0), dtype=torch.float64)
    return torch.stack(kept[0::2]), torch.stack(kept[1::2])


@_forward.register_fake
def _forward_shapes(
    sa: Tensor,
    sb: Tensor,
    s_scale: Tensor,
    ta: Tensor,
    tb: Tensor,
    t_scale: Tensor,
    row_weight: float | None,
    col_weight: float | None,
    reduce: bool,
    exclude_diagonal: bool,
    skip_wrong: bool,
    precision: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    n, m = sa.shape[0], sb.shape[0]
    shape = () if reduce else (n,) if row_weight is not None else (m,)
    n, m = n if row_weight is not None else 0, m if col_weight is not None else 0
    new, dtype = sa.new_empty, _float(sa)
    return (
        new(shape, dtype=dtype),
        new((2, n), dtype=dtype),
        new((2, n), dtype=torch.float64),
        new((2, m), dtype=dtype),
        new((2, m), dtype=torch.float64),
    )


@torch.library.custom_op("pyfast_mmcl::similarity_kl_backward", mutates_args=())
def _backward(
    g: Tensor,
    sa: Tensor,
    sb: Tensor,
    s_scale: Tensor,
    ta: Tensor,
    tb: Tensor,
    t_scale: Tensor,
    row_max: Tensor,
    row_share: Tensor,
    col_max: Tensor,
    col_share: Tensor,
    rows: bool,
    cols: bool,
    exclude_diagonal: bool,
    precision: str,
    backend: str,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    terms = KLTerms(None, None, True, exclude_diagonal, False, precision, backend)
    row = [row_max[0], row_share[0], row_max[1], row_share[1]] if rows else []
    col = [col_max[0], col_share[0], col_max[1], col_share[1]] if cols else []
    da, db, dscale = _kl.gradients(g, sa, sb, ta, tb, number(s_scale), number(t_scale), row, col, terms, need_a, need_b)
    da = sa.new_empty(0) if da is None else da
    db = sb.new_empty(0) if db is None else db
    return da, db, dscale.to(s_scale).reshape(s_scale.shape)


@_backward.register_fake
def _backward_shapes(
    g: Tensor,
    sa: Tensor,
    sb: Tensor,
    s_scale: Tensor,
    ta: Tensor,
    tb: Tensor,
    t_scale: Tensor,
    row_max: Tensor,
    row_share: Tensor,
    col_max: Tensor,
    col_share: Tensor,
    rows: bool,
    cols: bool,
    exclude_diagonal: bool,
    precision: str,
    backend: str,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    da = sa.new_empty(sa.shape if need_a else (0,))
    db = sb.new_empty(sb.shape if need_b else (0,))
    return da, db, torch.empty_like(s_scale)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    rows, cols, _, exclude_diagonal, _, precision, backend = inputs[6:]
    ctx.save_for_backward(*inputs[:6], *output[1:])
    ctx.words = (rows is not None, cols is not None, exclude_diagonal, precision, backend)


def _derivative(ctx: Any, g: Tensor, *_: Any) -> tuple[Any, ...]:
    need_a, need_b, need_scale = ctx.needs_input_grad[:3]
    da, db, dscale = torch.ops.pyfast_mmcl.similarity_kl_backward(g, *ctx.saved_tensors, *ctx.words, need_a, need_b)
    return (da if need_a else None, db if need_b else None, dscale if need_scale else None, *[None] * 10)


_forward.register_autograd(_derivative, setup_context=_setup)


def distill_registered(
    sa: Tensor, sb: Tensor, ta: Tensor, tb: Tensor, s_scale: Tensor, t_scale: Tensor, terms: KLTerms
) -> Tensor:
    """The loss by way of the operator."""
    return torch.ops.pyfast_mmcl.similarity_kl(sa, sb, s_scale, ta, tb, t_scale, *terms[:7])[0]
