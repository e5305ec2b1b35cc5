"""Gradients that are known when the value is, and the sentence for a gradient of a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._inputs import number

_FEW = 1 << 20  # values that one thread multiplies at once


def once(op: str, inputs: Sequence[Tensor], grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The gradients; a further derivative through them is refused instead of being silently zero."""
    if not torch.is_grad_enabled():  # the usual case: no graph of the backward pass was asked for
        return tuple(grads)
    return _Once.apply(op, len(inputs), *inputs, *grads)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: str, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.op = op
        return tuple(x if x is None else x.view_as(x) for x in tensors[count:])

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            f"{ctx.op}: expected one derivative, got a derivative of the gradient (create_graph=True), which is not "
            f"implemented; use pyfast_mmcl.ops.contrastive.reference.{ctx.op}, the same value in plain torch."
        )


def with_known_gradients(
    op: str,
    compute: Callable[[Sequence[bool]], tuple[Tensor, Sequence[Tensor | None]]],
    *inputs: Any,
    factor: float = 1.0,
) -> Tensor:
    """The value of ``compute(needed)``, whose gradients for ``inputs`` come with it; they are only scaled later.

    For losses without a normaliser one pass gives both, and keeping a gradient costs as much as keeping its input.
    ``factor`` is what the returned gradients lack.
    """
    needed = [isinstance(x, Tensor) and x.requires_grad for x in inputs]
    if not torch.is_grad_enabled() or not any(needed):
        return compute([False] * len(inputs))[0]
    return _Known.apply(op, compute, factor, *inputs)


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: str, compute: Callable, factor: float, *inputs: Any) -> Tensor:
        ctx.op, ctx.factor, needed = op, factor, ctx.needs_input_grad[3:]
        value, grads = compute(needed)
        kept = [g if need else None for g, need in zip(grads, needed, strict=True)]
        ctx.save_for_backward(*kept, *(x for x in inputs if isinstance(x, Tensor)))
        ctx.count = len(inputs)
        ctx.kinds = [(x.dtype, x.shape) if isinstance(x, Tensor) else None for x in inputs]
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        kept, tensors = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        with torch.no_grad():
            upstream = number(g) * ctx.factor
            grads = [
                None if k is None else _times(k, upstream).to(kind[0]).reshape(kind[1])
                for k, kind in zip(kept, ctx.kinds, strict=True)
            ]
        return (None, None, None, *once(ctx.op, (*tensors, g), grads))


def _times(x: Tensor, factor: Any) -> Tensor:
    if isinstance(factor, float) and x.device.type == "cpu" and x.dtype == torch.float32 and 1 < x.numel() < _FEW:
        # torch would wake threads for this, which go on spinning beside the kernels' own
        return torch.from_numpy(np.multiply(x.numpy(), np.float32(factor)))
    return x * factor
