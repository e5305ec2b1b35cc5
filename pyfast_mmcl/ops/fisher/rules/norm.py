"""Normalisation with statistics of one sample, or of none: G_γ = Σ_t g·x̂, G_β = Σ_t g."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...._errors import InputError
from ..calls import Call
from ..contributions import Contribution, Dense
from ..shared import Shared

Parts = list[tuple[Shared, Contribution]]


def layer_norm(call: Call, grads: list[Tensor]) -> Parts | None:
    """γ and β of the last dimensions."""
    x, shape, weight, bias, eps = call.bind("input", "normalized_shape", "weight", "bias", "eps")
    plain = torch.layer_norm(_wide(x), shape, None, None, 1e-5 if eps is None else eps)
    return _gains(call, grads[0], x, plain, weight, bias, range(-len(shape), 0))


def rms_norm(call: Call, grads: list[Tensor]) -> Parts | None:
    """γ of the last dimensions."""
    x, shape, weight, eps = call.bind("input", "normalized_shape", "weight", "eps")
    return _gains(call, grads[0], x, torch.rms_norm(_wide(x), shape, None, eps), weight, None, range(-len(shape), 0))


def group_norm(call: Call, grads: list[Tensor]) -> Parts | None:
    """γ and β of the channels [N, C, …]."""
    x, groups, weight, bias, eps = call.bind("input", "num_groups", "weight", "bias", "eps")
    plain = torch.group_norm(_wide(x), groups, None, None, 1e-5 if eps is None else eps)
    return _gains(call, grads[0], x, plain, weight, bias, (1 - x.ndim,))


def instance_norm(call: Call, grads: list[Tensor]) -> Parts | None:
    """γ and β of the channels [N, C, …]."""
    names = ("input", "weight", "bias", "running_mean", "running_var", "use_input_stats", "momentum", "eps")
    x, weight, bias, mean, var, own, momentum, eps = call.bind(*names)
    # the running statistics are not to be updated a second time
    kept = (None, None) if own else (mean, var)
    plain = torch.instance_norm(_wide(x), None, None, kept[0], kept[1], own, momentum, eps, False)
    return _gains(call, grads[0], x, plain, weight, bias, (1 - x.ndim,))


def batch_norm(call: Call, grads: list[Tensor]) -> Parts | None:
    """γ and β of the channels [N, C, …] with the running statistics."""
    names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
    x, weight, bias, mean, var, training, momentum, eps = call.bind(*names)
    if training:
        raise InputError(f"{call.key}: batch normalisation over the batch mixes samples; call model.eval() first.")
    plain = torch.batch_norm(_wide(x), None, None, mean, var, False, momentum, eps, False)
    return _gains(call, grads[0], x, plain, weight, bias, (1 - x.ndim,))


def _wide(x: Tensor) -> Tensor:
    x = x.detach()
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _gains(call: Call, g: Tensor, x: Tensor, plain: Tensor, weight: Any, bias: Any, kept: Any) -> Parts | None:
    """``plain`` is x̂ with the layout of ``x``; ``kept``: the dimensions of γ and β, counted from the end."""
    if call.target(x) is not None:
        return None
    layout = call.out_layout(g)
    rows = layout.rows(g, call.samples)
    summed = [d for d in range(1, rows.ndim) if d - rows.ndim not in kept]
    parts: Parts = []
    if weight is not None and (target := call.target(weight)) is not None:
        parts.append((target, Dense(_sum(rows * layout.rows(plain, call.samples), summed))))
    if bias is not None and (target := call.target(bias)) is not None:
        parts.append((target, Dense(_sum(_wide(rows), summed))))
    return parts


def _sum(x: Tensor, dims: list[int]) -> Tensor:
    return x.sum(dims) if dims else x
