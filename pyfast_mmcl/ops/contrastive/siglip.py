"""`siglip`: the pairwise sigmoid loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import _inputs as inputs
from ._gradients import with_known_gradients
from ._pairs import siglip_pass

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def siglip(
    a: Any,
    b: Any,
    scale: Any,
    bias: Any,
    *,
    labels: Any = None,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    process_group: ProcessGroup | None = None,
) -> Any:
    """Sigmoid loss over all pairs, value and gradients from one pass in O((N + M)·D) memory.

    ``s = scale * a @ b.T + bias;  y = 1 where i and j belong together, else -1``
    ``softplus(-y * s).sum() / N``

    Args:
        a: [N, D] torch tensor (any device) or NumPy array, usually of unit rows; float32, float16, bfloat16, or float64
            (on torch). N = 0 is legal and gives 0.
        b: [M, D], same kind and device.
        scale: exp(logit_scale), a number or a 0-d tensor (with a gradient where it requires one); 10 at the start.
        bias: logit bias, likewise; −10 at the start.
        labels: None: row i of a belongs to row i of b (N = M). Else integers [N] for both sides, or a pair
            (labels_a [N], labels_b [M]): equal labels belong together, any number of them.
        reduction: "mean" (default): the sum over all pairs divided by N, as in the paper; or "sum".
        precision: "auto" (bfloat16 tiles for bfloat16 rows, else float32), "float32" or "bfloat16".
        backend: "auto" | "torch" | "native" | "triton"; one asked for by name never falls back.
        process_group: the rows are spread over these processes (torch.distributed): each hands in its own and gets the
            loss of all rows with the gradient of its own; conventions in `ring`. None (default): one process.

    Returns:
        0-d float32 (float64 for float64 rows); for NumPy input a float. NaN in a row gives NaN.

    Raises:
        InputError: wrong shape, dtype, device mix, N ≠ M without labels, unknown word.
        BackendError: the backend asked for by name cannot run.
        RuntimeError: a derivative of the gradient was asked for.

    Reference: Zhai et al. 2023 (SigLIP), eq. 1 and algorithm 1.
    """
    if process_group is not None:
        from .ring import siglip_ring

        return siglip_ring(
            a,
            b,
            scale,
            bias,
            process_group=process_group,
            labels=labels,
            reduction=reduction,
            precision=precision,
            backend=backend,
        )
    inputs.check_word("reduction", reduction, ("mean", "sum"))
    x, y = inputs.pair_of(a, b)
    precision = inputs.precision_of(precision, x)
    scale, bias = inputs.scalar(scale, "scale"), inputs.scalar(bias, "bias")
    n, m = x.shape[0], y.shape[0]
    ids = inputs.own_ids(n, m, x.device) if labels is None else inputs.labels_of(labels, n, m, x.device)
    part = 1.0 / max(n, 1) if reduction == "mean" else 1.0
    if torch.compiler.is_compiling():
        value = _by_operator(x, y, scale, bias, ids, part, precision, backend)
    else:

        def compute(needed: Sequence[bool]) -> tuple[Tensor, list[Tensor | None]]:
            return _both(x, y, scale, bias, ids, part, precision, backend, needed)

        value = with_known_gradients("siglip", compute, x, y, scale, bias, factor=part)
    return inputs.give_back(value, a)


def _both(
    x: Tensor,
    y: Tensor,
    scale: Any,
    bias: Any,
    ids: tuple[Tensor, Tensor],
    part: float,
    precision: str,
    backend: str,
    needed: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    # The value, and of the sum over pairs the gradients for x, y, scale and bias that are needed; those of the numbers
    # come by way of a side.
    numbers = needed[2] or needed[3]
    loss, *grads = siglip_pass(
        x,
        y,
        inputs.number(scale),
        inputs.number(bias),
        row_ids=ids[0],
        col_ids=ids[1],
        need_a=needed[0] or (numbers and not needed[1]),
        need_b=needed[1],
        precision=precision,
        backend=backend,
    )
    kept = [g if need else None for g, need in zip(grads, needed, strict=True)]
    return (loss * part).to(x.dtype if x.dtype == torch.float64 else torch.float32), kept


def _by_operator(
    x: Tensor,
    y: Tensor,
    scale: Any,
    bias: Any,
    ids: tuple[Tensor, Tensor],
    part: float,
    precision: str,
    backend: str,
) -> Tensor:
    scale, bias = inputs.as_scalar_tensor(scale, x), inputs.as_scalar_tensor(bias, x)
    need = torch.is_grad_enabled()
    need_b = need and y.requires_grad
    need_a = need and (x.requires_grad or ((scale.requires_grad or bias.requires_grad) and not need_b))
    return torch.ops.pyfast_mmcl.siglip(x, y, scale, bias, *ids, part, precision, backend, need_a, need_b)[0]


@torch.library.custom_op("pyfast_mmcl::siglip", mutates_args=())
def _registered(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    bias: Tensor,
    row_ids: Tensor,
    col_ids: Tensor,
    part: float,
    precision: str,
    backend: str,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The form that torch.compile sees: the value with its gradients, empty where they are not needed."""
    needed = (need_a, need_b, need_a or need_b, need_a or need_b)
    value, grads = _both(a, b, scale, bias, (row_ids, col_ids), part, precision, backend, needed)
    for i, given in ((2, scale), (3, bias)):
        grads[i] = torch.zeros_like(given) if grads[i] is None else grads[i].to(given).reshape(given.shape)
    da, db, dscale, dbias = (a.new_empty(0, dtype=value.dtype) if g is None else g for g in grads)
    return value, da, db, dscale, dbias


@_registered.register_fake
def _shapes(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    bias: Tensor,
    row_ids: Tensor,
    col_ids: Tensor,
    part: float,
    precision: str,
    backend: str,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
    da = a.new_empty(a.shape if need_a else (0,), dtype=dtype)
    db = b.new_empty(b.shape if need_b else (0,), dtype=dtype)
    return a.new_empty((), dtype=dtype), da, db, torch.empty_like(scale), torch.empty_like(bias)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.dtypes, ctx.part = [x.dtype for x in inputs[:4]], inputs[6]


def _derivative(ctx: Any, g: Tensor, *_: Any) -> tuple[Any, ...]:
    grads = [
        (k * (g * ctx.part)).to(dtype) if need else None
        for k, dtype, need in zip(ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad[:4], strict=True)
    ]
    return (*grads, *[None] * 7)


_registered.register_autograd(_derivative, setup_context=_setup)
