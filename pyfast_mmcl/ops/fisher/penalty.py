"""`quadratic_penalty`: value and gradient of an anchored quadratic in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._errors import InputError
from . import _dispatch, _native_fisher

Tensors = Tensor | Sequence[Tensor]


def quadratic_penalty(
    params: Tensors, anchors: Tensors, weights: Tensors, lam: float = 1.0, *, backend: str = "auto"
) -> Tensor:
    """Elastic pull of the parameters to their anchors, a 0-d loss with gradient.

    ``0.5 * lam * sum((w * (p - a).square()).sum() for p, a, w in zip(params, anchors, weights))``
    The gradient ``lam * w * (p - a)`` is formed in the same pass; differences and sums are float32 or wider.

    Args:
        params: tensor or list of tensors, float32, bfloat16, float16 or float64; gradients come back in their dtype.
        anchors: θ*, same shapes; weights: importance w, same shapes. Neither receives a gradient.
        lam: λ, any finite number; the factor ½ is part of the penalty (Kirkpatrick et al., eq. 3).
        backend: "auto" | "torch" | "native"; one asked for by name never falls back.

    Returns:
        0-d tensor, float64 for float64 parameters, else float32.

    Raises:
        InputError: lists of different lengths, or shapes or devices that differ.
        BackendError: the backend asked for by name cannot run.

    Reference: Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 2017, eq. 3.
    """
    p, a, w = _list(params), _list(anchors), _list(weights)
    check_alike({"params": p, "anchors": a, "weights": w})
    chosen = _dispatch.penalty_backend(backend, p, a, w)
    return _Quadratic.apply(finite_number(lam), chosen, len(p), *p, *a, *w)


class _Quadratic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lam: float, backend: str, count: int, *tensors: Tensor) -> Tensor:
        params, anchors, weights = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        wanted = any(ctx.needs_input_grad)
        run = _native if backend == "native" else _reference
        value, ctx.pulls = run(params, anchors, weights, lam, wanted)
        ctx.dtypes = [p.dtype for p in params]
        return value.to(torch.float64 if torch.float64 in ctx.dtypes else torch.float32)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = [
            (pull * grad).to(dtype) if needed else None
            for pull, dtype, needed in zip(ctx.pulls, ctx.dtypes, ctx.needs_input_grad[3:], strict=False)
        ]
        return (None, None, None, *grads, *[None] * (2 * len(grads)))


def _reference(
    params: Sequence[Tensor], anchors: Sequence[Tensor], weights: Sequence[Tensor], lam: float, wanted: bool
) -> tuple[Tensor, list[Tensor]]:
    """(penalty in float64, λ w (p − a) per tensor or nothing)."""
    value = torch.zeros((), dtype=torch.float64, device=params[0].device if params else "cpu")
    pulls = []
    for p, a, w in zip(params, anchors, weights, strict=True):
        wide = torch.float64 if p.dtype == torch.float64 else torch.float32
        distance = p.to(wide) - a.to(wide)
        pull = w.to(wide) * distance
        value += (pull * distance).sum(dtype=torch.float64)
        if wanted:
            pulls.append(pull.mul_(lam))
    return 0.5 * lam * value, pulls


def _native(
    params: Sequence[Tensor], anchors: Sequence[Tensor], weights: Sequence[Tensor], lam: float, wanted: bool
) -> tuple[Tensor, list[Tensor]]:
    pulls = [torch.empty_like(a) for a in anchors] if wanted else []
    value = _native_fisher.quadratic([p.detach() for p in params], anchors, weights, lam, pulls or None)
    return torch.tensor(value, dtype=torch.float64), pulls


def finite_number(lam: Any) -> float:
    """λ as a float. Raises InputError for anything that is not one finite number, or that wants a gradient."""
    if isinstance(lam, Tensor) and lam.requires_grad:
        raise InputError("lam: receives no gradient; pass lam.item(), or use lam=1 and multiply the result by it.")
    number = lam.item() if isinstance(lam, (Tensor, np.ndarray, np.generic)) and math.prod(lam.shape) == 1 else lam
    if not isinstance(number, Real) or isinstance(number, bool) or not math.isfinite(number):
        raise InputError(f"lam: expected a finite number, got {lam!r}.")
    return float(number)


def _list(x: Tensors) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else list(x)


def check_alike(lists: dict[str, list[Tensor]]) -> None:
    """Raise InputError unless all lists hold tensors of the same shapes on the same devices."""
    (first, reference), *others = lists.items()
    for name, tensors in others:
        if len(tensors) != len(reference):
            raise InputError(f"{name}: expected {len(reference)} tensors as in {first}, got {len(tensors)}.")
        for i, (x, y) in enumerate(zip(tensors, reference, strict=True)):
            for owner, t in ((first, y), (name, x)):
                if not isinstance(t, Tensor) or not t.is_floating_point():
                    got = t.dtype if isinstance(t, Tensor) else type(t).__name__
                    raise InputError(f"{owner}[{i}]: expected a tensor of floating-point numbers, got {got}.")
            if x.shape != y.shape:
                raise InputError(f"{name}[{i}]: expected shape {list(y.shape)} as in {first}, got {list(x.shape)}.")
            if x.device != y.device:
                raise InputError(
                    f"{name}[{i}] is on {x.device}, {first}[{i}] on {y.device}; move one with .to(device)."
                )
