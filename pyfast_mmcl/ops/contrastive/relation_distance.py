"""`relation_distance`: distillation of the distances, or of the angles, between rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, number_above_zero
from . import _inputs as inputs
from . import _relation
from ._gradients import with_known_gradients

KINDS = ("distance", "angle")


def relation_distance(
    student: Any, teacher: Any, *, kind: str = "distance", delta: float = 1.0, reduction: str = "mean"
) -> Any:
    """Relational knowledge distillation: Huber loss between the two geometries of the same rows.

    ``d = cdist(f, f);  d = d / d[d > 0].mean();  huber(d_student, d_teacher)  # distance``
    ``e = normalize(f[:, None] - f[None]);  huber of e[:, j] @ e[:, j].T over every apex j  # angle``

    Distances come from direct differences, block by block: near-duplicates far from the origin keep their digits, and
    memory is O(N·D) and some 16 MiB. Coinciding rows have distance 0, no direction, and pass no gradient.

    Args:
        student: [N, D] torch tensor (any device) or NumPy array, float32, float16, bfloat16 or float64. N = 0 is legal
            and gives 0.
        teacher: [N, D′]; a constant whether or not it requires a gradient.
        kind: "distance" (pairs, default) or "angle" (triplets, the cosine at every apex; time O(N³·D)).
        delta: where Huber turns from square to straight; 1.0 in the paper.
        reduction: "mean" (default): over all N² pairs or N³ triplets, the diagonal's zeros included, as the authors'
            code does; or "sum".

    Returns:
        0-d float32 (float64 for float64 rows); for NumPy input a float. NaN in a row gives NaN.

    Raises:
        InputError: different numbers of rows, wrong shape, dtype or device, delta ≤ 0, unknown word.
        RuntimeError: a derivative of the gradient was asked for.

    Reference: Park et al. 2019 (RKD), eqs. 4 to 10.
    """
    inputs.check_word("kind", kind, KINDS)
    inputs.check_word("reduction", reduction, ("mean", "sum"))
    delta = number_above_zero("delta", delta)
    s, t = inputs.rows_of(student, "student"), inputs.rows_of(teacher, "teacher").detach()
    inputs.same_home(s, t, ("student", "teacher"))
    if s.shape[0] != t.shape[0]:
        raise InputError(f"student and teacher: expected the same number of rows, got {s.shape[0]} and {t.shape[0]}.")
    if torch.compiler.is_compiling():
        need = torch.is_grad_enabled() and s.requires_grad
        value = torch.ops.pyfast_mmcl.relation_distance(s, t, kind, delta, reduction == "mean", need)[0]
    else:

        def compute(needed: Sequence[bool]) -> tuple[Tensor, tuple[Tensor | None]]:
            value, grad = _scaled(s, t, kind, delta, reduction == "mean", needed[0])
            return value, (grad,)

        value = with_known_gradients("relation_distance", compute, s)
    return inputs.give_back(value, student)


def _scaled(s: Tensor, t: Tensor, kind: str, delta: float, mean: bool, need: bool) -> tuple[Tensor, Tensor | None]:
    # The value and, where it is needed, the gradient for the student.
    total = _relation.distance if kind == "distance" else _relation.angle
    dtype = torch.float64 if s.dtype == torch.float64 else torch.float32
    with torch.autocast(s.device.type, enabled=False):
        value, grad = total(s.detach().to(dtype), t.to(dtype), delta, need)
    count = max(s.shape[0], 1) ** (2 if kind == "distance" else 3) if mean else 1
    return (value / count).to(dtype), None if grad is None else grad.div_(count)


@torch.library.custom_op("pyfast_mmcl::relation_distance", mutates_args=())
def _registered(
    student: Tensor, teacher: Tensor, kind: str, delta: float, mean: bool, need: bool
) -> tuple[Tensor, Tensor]:
    """The form that torch.compile sees: the value with its gradient, empty where it is not needed."""
    value, grad = _scaled(student, teacher, kind, delta, mean, need)
    return value, value.new_empty(0) if grad is None else grad


@_registered.register_fake
def _shapes(student: Tensor, teacher: Tensor, kind: str, delta: float, mean: bool, need: bool) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    return student.new_empty((), dtype=dtype), student.new_empty(student.shape if need else (0,), dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.dtype = inputs[0].dtype


def _derivative(ctx: Any, g: Tensor, _: Any) -> tuple[Any, ...]:
    return (ctx.saved_tensors[0] * g).to(ctx.dtype), None, None, None, None, None


_registered.register_autograd(_derivative, setup_context=_setup)
