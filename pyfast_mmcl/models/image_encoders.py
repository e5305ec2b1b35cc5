"""Encoders of images for clustering: small ones for 28 to 48 pixels, torchvision's residual networks by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.models.linear import Linear
from pyfast_mmcl.models.open_clip_import import load_torchvision

Backbone = str | Callable[[int], nn.Module]

# Images up to this side lose too much in the first stride-2 convolution and pooling of residual networks.
_SMALL = 64
# The side from which the first convolution of a ConvNet may halve the image.
_HALVED_FROM = 24
# Places per side at which a ConvNet's last layer looks.
_PLACES = 4


class ConvNet(nn.Module):
    """3×3 convolutions and a linear layer, all with batch normalisation and ReLU: [B, C, H, W] → [B, width].

    Every convolution halves the image, the first only from 24 pixels on: on the CPU most of the time goes into the
    largest maps. The linear layer reads the last map, averaged to at most 4×4 places: so small a network needs to know
    where a stroke is to tell a 6 from a 9, which the mean over all places does not say.
    """

    def __init__(self, channels: int, side: int, widths: Sequence[int] = (32, 64, 128), width: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for i, after in enumerate(widths):
            stride = 1 if i == 0 and side < _HALVED_FROM else 2
            layers += [*_convolution(before, after, stride), nn.ReLU()]
            before = after
        self.layers = nn.Sequential(*layers)
        read = Linear(before * _PLACES**2, width, bias=False)
        self.read = nn.Sequential(read, nn.BatchNorm1d(width), nn.ReLU())
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        # Channels last is the faster order for small convolutions on the CPU, and on a GPU's matrix units.
        return self.read(_in_places(self.layers(x.contiguous(memory_format=torch.channels_last))))


def _in_places(x: Tensor) -> Tensor:
    """The last map [B, C, h, w] as means over 4×4 places: [B, 16 · C]. A smaller map repeats pixels."""
    return x.flatten(1) if x.shape[2:] == (_PLACES, _PLACES) else adaptive_avg_pool2d(x, _PLACES).flatten(1)


class SmallResNet(nn.Module):
    """A residual network for small images: a 3×3 convolution, one block per width, each but the first halving.

    ``block(x) = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))``; [B, C, H, W] → mean over the last map
    [B, widths[-1]]. Reference: He et al., CVPR 2016, §4.2 (there 3n blocks of widths 16, 32 and 64).
    """

    def __init__(self, channels: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        blocks = [_Block(widths[0], widths[0], 1), *(_Block(before, width, 2) for before, width in pairwise(widths))]
        self.layers = nn.Sequential(*_convolution(channels, widths[0], 1), nn.ReLU(), *blocks)
        self.width = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(*_convolution(before, width, stride), nn.ReLU(), *_convolution(width, width, 1))
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(before, width, stride, size=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


def _convolution(before: int, width: int, stride: int, size: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(before, width, size, stride=stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(width)]


def image_encoder(backbone: Backbone, shape: Sequence[int]) -> tuple[nn.Module, int]:
    """A fresh encoder of images [B, C, H, W] of ``shape`` (C, H, W), and the width d of its features [B, d].

    backbone: "small" (ConvNet), "small_resnet" (SmallResNet); "resnet18" or "resnet34", torchvision's without their
    last layer, for images up to 64 pixels with a 3×3 first convolution and no pooling behind it, as SCAN trains
    them on CIFAR; or a function channels → nn.Module whose output is [B, d].

    Weights are drawn from torch's generator. Raises UnknownNameError for another name, InputError for a module in
    place of a function, or for one that gives no features [B, d].
    """
    channels, side = shape[0], min(shape[1:])
    if isinstance(backbone, nn.Module) or not (isinstance(backbone, str) or callable(backbone)):
        raise InputError(
            f"backbone must be a name or a function that makes a module, got {type(backbone).__name__}; pass "
            "lambda channels: MyNetwork(channels), so that every fit starts from weights of its own."
        )
    if callable(backbone):
        made = backbone(channels)
        return made, _width(made, shape)
    if backbone not in BACKBONES:
        raise unknown_name("backbone", backbone, BACKBONES)
    encoder = BACKBONES[backbone](channels, side)
    return encoder, int(encoder.width)


def _residual(name: str) -> Callable[[int, int], Any]:
    def make(channels: int, side: int) -> nn.Module:
        network = getattr(load_torchvision("torchvision.models"), name)()
        width = network.fc.in_features
        if side <= _SMALL:
            network.conv1 = nn.Conv2d(channels, network.conv1.out_channels, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
        elif channels != network.conv1.in_channels:
            network.conv1 = nn.Conv2d(channels, network.conv1.out_channels, 7, stride=2, padding=3, bias=False)
        network.fc = nn.Identity()
        network.width = width
        return network

    return make


BACKBONES: dict[str, Callable[[int, int], Any]] = {
    "small": ConvNet,
    "small_resnet": lambda channels, side: SmallResNet(channels),
    "resnet18": _residual("resnet18"),
    "resnet34": _residual("resnet34"),
}


def _width(module: Any, shape: Sequence[int]) -> int:
    """The width of what a user's module gives."""
    if not isinstance(module, nn.Module):
        raise InputError(f"backbone: expected the function to make an nn.Module, got {type(module).__name__}.")
    module.eval()  # statistics of batches are not to learn from the probe
    with torch.no_grad():
        out = module(torch.zeros(2, *shape))
    module.train()
    if not isinstance(out, Tensor) or out.ndim != 2:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(f"backbone: expected features [B, d] of images {tuple(shape)}, got {got}; pool and flatten.")
    return out.shape[1]
