"""Linear maps: the gradient of a sample is a sum of outer products over its positions."""

from __future__ import annotations

import torch
from torch import Tensor

from ..calls import Call
from ..contributions import Contribution, Dense, Outer
from ..shared import Shared

Parts = list[tuple[Shared, Contribution]]


def linear(call: Call, grads: list[Tensor]) -> Parts | None:
    """``x @ weight.T + bias``: G_W = Σ_s g_s ⊗ x_s, G_b = Σ_s g_s."""
    x, weight, bias = call.bind("input", "weight", "bias")
    return _map(call, grads[0], x, weight, bias, transposed=False)


def matmul(call: Call, grads: list[Tensor]) -> Parts | None:
    """``x @ weight`` with a matrix [I, O] on the right."""
    x, weight = call.bind("input", "other")
    return _map(call, grads[0], x, weight, None, transposed=True)


def addmm(call: Call, grads: list[Tensor]) -> Parts | None:
    """``bias + x @ weight`` with a matrix [I, O]."""
    if len(call.args) > 3 or "alpha" in call.kwargs or "beta" in call.kwargs:
        return None
    bias, x, weight = call.bind("input", "mat1", "mat2")
    return _map(call, grads[0], x, weight, bias, transposed=True)


def _map(call: Call, g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Parts | None:
    known = weight.ndim == 2 and (bias is None or bias.ndim == 1) and call.target(x) is None
    a = call.rows(x) if known else None
    if a is None:
        return None
    rows = call.out_rows(g)
    rows, a = (t.reshape(len(t), -1, t.shape[-1]) for t in (rows, a))
    parts: Parts = []
    if (target := call.target(weight)) is not None:
        parts.append((target, Outer(rows, a, weight.shape, transposed)))
    if bias is not None and (target := call.target(bias)) is not None:
        parts.append((target, Dense(_sum(rows))))
    return parts


def _sum(rows: Tensor) -> Tensor:
    """Σ_s g_s in at least float32."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    return rows.sum(1, dtype=torch.float64 if rows.dtype == torch.float64 else torch.float32)
