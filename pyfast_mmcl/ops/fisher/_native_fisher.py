"""Glue to the compiled Fisher kernels: passes DLPack capsules and torch's thread count, allocates nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import _native

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def usable(*tensors: Tensor) -> tuple[bool, str]:
    """Whether the compiled kernels take these tensors, and why not."""
    for t in tensors:
        if t.device.type != "cpu":
            return False, f"compiled for the CPU, a tensor is on {t.device}"
        if t.dtype not in FLOATS:
            return False, f"compiled for float32, bfloat16 and float16; {t.dtype} runs on the torch reference"
    return _native.available()


def outer_square_accumulate(out: Tensor, g: Tensor, a: Tensor, absolute: bool = False) -> None:
    """``out += einsum("bso,bsi->boi", g, a).square().sum(0)`` in place, or ``.abs()``; float32 sums.

    Args:
        out: [O, I] float32, any strides.
        g: [B, S, O], or [B, O] for one step per sample; float32, bfloat16 or float16, any strides.
        a: [B, S, I] or [B, I] likewise.
    """
    if g.dim() == 2:
        g, a = g[:, None], a[:, None]
    capsule = _native.capsule
    _native.module().outer_square(capsule(out), capsule(g), capsule(a), absolute, torch.get_num_threads())


def conv_square_accumulate(
    out: Tensor,
    g: Tensor,
    x: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    absolute: bool = False,
) -> None:
    """``out += sum(grad_b.square() for b in range(B))`` in place: weight gradients of a convolution, one per sample.

    ``grad_b = torch.nn.grad.conv2d_weight(x[b : b + 1], out.shape, g[b : b + 1], stride, padding, dilation, groups)``
    The unfolded input is read from one sample at a time; it is never in memory for the batch.

    Args:
        out: [O, C/groups, *kernel] float32, any strides; with its channels innermost it is accumulated fastest.
        g: [B, O, *output positions], float32, bfloat16 or float16, any strides; one to three spatial dimensions.
        x: [B, C, *input positions] likewise.
        stride, padding, dilation: one number per spatial dimension; padding on both sides, with zeros.
        groups: number of groups.
        absolute: sum absolute values in place of squares.
    """
    capsule = _native.capsule
    _native.module().conv_square(
        capsule(out),
        capsule(g),
        capsule(x),
        list(stride),
        list(padding),
        list(dilation),
        groups,
        absolute,
        torch.get_num_threads(),
    )


def quadratic(
    params: Sequence[Tensor],
    anchors: Sequence[Tensor],
    weights: Sequence[Tensor],
    lam: float,
    grad_out: Sequence[Tensor] | None = None,
) -> float:
    """``0.5 * lam * sum((w * (p - a).square()).sum())``; writes ``lam * w * (p - a)`` to ``grad_out``.

    One pass over memory. The value is summed in float64 in an order that only the sizes decide.

    Args:
        params: contiguous tensors, float32, bfloat16 or float16.
        anchors: contiguous float32 tensors of the same sizes.
        weights: likewise.
        lam: factor of penalty and gradient.
        grad_out: contiguous float32 tensors to overwrite, or None.
    """

    def flat(tensors: Sequence[Tensor]) -> list:
        return [_native.capsule(t.view(-1)) for t in tensors]

    grads = None if grad_out is None else flat(grad_out)
    threads = torch.get_num_threads()
    return 0.5 * lam * _native.module().quadratic(flat(params), flat(anchors), flat(weights), grads, lam, threads)
