"""Sets of weights: a model's, copied, put back, mixed with others. Nothing here is a gradient step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def weights_of(model: nn.Module) -> Weights:
    """Copies of all parameters and floating buffers that a checkpoint of ``model`` holds, by name."""
    return {name: x.detach().clone() for name, x in model.state_dict().items() if x.is_floating_point()}


@torch.no_grad()
def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Write ``weights`` into ``model``, in place. What has grown since keeps its values where it is new."""
    for name, x in model.state_dict().items():
        if name in weights:
            x[_corner(weights[name])] = weights[name].to(x.device, x.dtype)


@torch.no_grad()
def mix(old: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float) -> Weights:
    """(1 − share) · old + share · new, and ``new`` alone where ``old`` has nothing."""
    mixed = {}
    for name, x in new.items():
        mixed[name] = x.clone()
        if name in old:
            corner = _corner(old[name])
            before = old[name].to(x.device, x.dtype)
            # Masks hold infinities, between which there is no line.
            mixed[name][corner] = torch.where(before == x[corner], before, torch.lerp(before, x[corner], share))
    return mixed


def _corner(x: Tensor) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in x.shape)
