"""Batch normalisation over several processes: the statistics of all rows, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Total = Callable[[Tensor], Tensor]


@contextmanager
def statistics_of_all(network: nn.Module, total: Total) -> Iterator[None]:
    """Inside, layers of batch normalisation in training take mean and variance over the rows of all processes.

    total: the sum over processes, with gradients. torch.nn.SyncBatchNorm does the same on a GPU alone, and is left as
    it is.
    """
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm)
    ]
    for layer in layers:
        layer.forward = partial(_normalize, layer, total=total)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalize(layer: _BatchNorm, x: Tensor, *, total: Total) -> Tensor:
    """``(x − mean) / sqrt(var + eps) · weight + bias`` with the mean and variance of every channel of x [b, C, …]."""
    if not layer.training:
        return type(layer).forward(layer, x)
    axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    rows = torch.tensor([wide.numel() / wide.shape[1]], dtype=torch.float64, device=x.device)
    sums = total(torch.cat([wide.sum(axes, dtype=torch.float64), rows]))
    n, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
    centered = wide - mean.to(wide.dtype).view(shape)
    variance = total(centered.square().sum(axes, dtype=torch.float64)) / n
    out = centered * (variance + layer.eps).rsqrt().to(wide.dtype).view(shape)
    if layer.affine:
        out = out * layer.weight.view(shape) + layer.bias.view(shape)
    if layer.track_running_stats and layer.running_mean is not None:
        _remember(layer, mean.detach(), variance.detach() * n / (n - 1))
    return out.to(x.dtype)


@torch.no_grad()
def _remember(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), momentum)
    layer.running_var.lerp_(variance.to(layer.running_var), momentum)
