"""The same loss as an operator: what torch.compile sees instead of Python."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _softmax
from ._inputs import number
from ._softmax import Terms


def _side(side: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    if side is None:
        return like.new_empty(0, dtype=_float(like)), like.new_empty(0, dtype=torch.float64)
    return side.max, side.sum


def _float(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@torch.library.custom_op("pyfast_mmcl::contrast", mutates_args=())
def _forward(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    row_ids: Tensor,
    col_ids: Tensor,
    row_weight: Tensor | None,
    col_weight: Tensor | None,
    row_share: Tensor | None,
    col_share: Tensor | None,
    reduce: bool,
    symmetric: bool,
    precision: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    terms = Terms(row_ids, col_ids, row_weight, col_weight, row_share, col_share, reduce, symmetric, precision, backend)
    value, row, col = _softmax.loss_with_sums(a, b, number(scale), terms)
    return (value, *_side(row, a), *_side(col, a))


@_forward.register_fake
def _forward_shapes(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    row_ids: Tensor,
    col_ids: Tensor,
    row_weight: Tensor | None,
    col_weight: Tensor | None,
    row_share: Tensor | None,
    col_share: Tensor | None,
    reduce: bool,
    symmetric: bool,
    precision: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    n, m = a.shape[0], b.shape[0]
    shape = () if reduce else (n,) if row_weight is not None else (m,)
    n, m = n if row_weight is not None else 0, m if col_weight is not None else 0
    new, dtype = a.new_empty, _float(a)
    return (
        new(shape, dtype=dtype),
        new((n,), dtype=dtype),
        new((n,), dtype=torch.float64),
        new((m,), dtype=dtype),
        new((m,), dtype=torch.float64),
    )


@torch.library.custom_op("pyfast_mmcl::contrast_backward", mutates_args=())
def _backward(
    g: Tensor,
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    row_max: Tensor,
    row_sum: Tensor,
    col_max: Tensor,
    col_sum: Tensor,
    row_ids: Tensor,
    col_ids: Tensor,
    row_weight: Tensor | None,
    col_weight: Tensor | None,
    row_share: Tensor | None,
    col_share: Tensor | None,
    symmetric: bool,
    precision: str,
    backend: str,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    terms = Terms(row_ids, col_ids, row_weight, col_weight, row_share, col_share, True, symmetric, precision, backend)
    row = (row_max, row_sum) if row_weight is not None else None
    col = (col_max, col_sum) if col_weight is not None else None
    da, db, dscale = _softmax.gradients(g, a, b, number(scale), row, col, terms, need_a, need_b)
    empty = a.new_empty(0)
    return empty if da is None else da, empty.clone() if db is None else db, dscale.to(scale).reshape(scale.shape)


@_backward.register_fake
def _backward_shapes(
    g: Tensor,
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    row_max: Tensor,
    row_sum: Tensor,
    col_max: Tensor,
    col_sum: Tensor,
    row_ids: Tensor,
    col_ids: Tensor,
    row_weight: Tensor | None,
    col_weight: Tensor | None,
    row_share: Tensor | None,
    col_share: Tensor | None,
    symmetric: bool,
    precision: str,
    backend: str,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    da = a.new_empty(a.shape if need_a else (0,))
    db = b.new_empty(b.shape if need_b else (0,))
    return da, db, torch.empty_like(scale)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    a, b, scale, *ids_and_weights, _, symmetric, precision, backend = inputs
    ctx.save_for_backward(a, b, scale, *output[1:], *ids_and_weights)
    ctx.words = (symmetric, precision, backend)


def _derivative(ctx: Any, g: Tensor, *_: Any) -> tuple[Any, ...]:
    need_a, need_b, need_scale = ctx.needs_input_grad[:3]
    need_b = need_b and not ctx.words[0]
    da, db, dscale = torch.ops.pyfast_mmcl.contrast_backward(g, *ctx.saved_tensors, *ctx.words, need_a, need_b)
    return (da if need_a else None, db if need_b else None, dscale if need_scale else None, *[None] * 10)


_forward.register_autograd(_derivative, setup_context=_setup)


def contrast_registered(a: Tensor, b: Tensor, scale: Tensor, t: Terms) -> Tensor:
    """The loss by way of the operator."""
    weights = [_as_tensor(w, a) for w in (t.row_weight, t.col_weight)]
    ids = (t.row_ids, t.col_ids)
    return torch.ops.pyfast_mmcl.contrast(
        a, b, scale, *ids, *weights, t.row_share, t.col_share, t.reduce, t.symmetric, t.precision, t.backend
    )[0]


def _as_tensor(weight: Any, like: Tensor) -> Tensor | None:
    if weight is None or isinstance(weight, Tensor):
        return weight
    return torch.full((), weight, dtype=torch.float64, device=like.device)
