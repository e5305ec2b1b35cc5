"""Generators, encoders and critics of vectors and of small images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.linear import Linear

_LEAK = 0.2  # of the leaky ReLU, as in DCGAN
_LEAST_SIDE = 4  # two convolutions halve the image


def reader(shape: Sequence[int], out: int, widths: Sequence[int], filters: int) -> nn.Sequential:
    """A network of rows [B, *shape] → [B, out], without batch statistics and differentiable twice.

    Vectors (D,): layers D – widths – out. Images (C, H, W): two 4×4 convolutions with ``filters`` and 2 · filters
    outputs that halve the image, then layers of 16 · filters and out. Leaky ReLU between them.
    """
    if len(shape) == 1:
        return _layers([shape[0], *widths, out])
    height, width = (_checked(side) // 4 for side in shape[1:])
    return nn.Sequential(
        nn.Conv2d(shape[0], filters, 4, stride=2, padding=1),
        nn.LeakyReLU(_LEAK),
        nn.Conv2d(filters, 2 * filters, 4, stride=2, padding=1),
        nn.LeakyReLU(_LEAK),
        nn.Flatten(),
        *_layers([2 * filters * height * width, 16 * filters, out]),
    )


class Generator(nn.Module):
    """A network of latent rows [B, d] → rows [B, *shape]: the mirror of ``reader``, with batch normalisation and ReLU.

    Vectors are any numbers, images lie in [0, 1].
    """

    def __init__(self, latent: int, shape: Sequence[int], widths: Sequence[int], filters: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if len(shape) == 1:
            widths = [latent, *reversed(widths)]
            self.layers = nn.Sequential(*_normed(widths), Linear(widths[-1], shape[0]))
            return
        height, width = (-(-_checked(side) // 4) for side in shape[1:])
        self.layers = nn.Sequential(
            *_normed([latent, 16 * filters, 2 * filters * height * width]),
            nn.Unflatten(1, (2 * filters, height, width)),
            nn.ConvTranspose2d(2 * filters, filters, 4, stride=2, padding=1),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.ConvTranspose2d(filters, shape[0], 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        made = self.layers(z)
        # Sides that are no multiple of 4 are made larger first.
        return made if made.ndim == 2 else made[:, :, : self.shape[1], : self.shape[2]]


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [Linear(before, after), nn.LeakyReLU(_LEAK)]
    return nn.Sequential(*layers[:-1])


def _normed(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return layers


def _checked(side: int) -> int:
    if side < _LEAST_SIDE:
        raise InputError(f"images must have sides of at least {_LEAST_SIDE} pixels, got {side}; flatten them.")
    return side
