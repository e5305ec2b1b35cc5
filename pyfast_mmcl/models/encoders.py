"""Encoders of one modality: a tensor of rows in, embeddings [B, D] out. No layer mixes rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError

if TYPE_CHECKING:
    from pyfast_mmcl.models.spec import Spec

# Images are pooled to this grid before the last layer, so that one encoder takes any image size.
_GRID = 4


class ImageEncoder(nn.Module):
    """Two 3×3 convolutions, the second with stride 2, pooled to a 4×4 grid: [B, channels, H, W] → [B, D]."""

    def __init__(self, channels: int, width: int = 64, *, hidden: int = 16) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * hidden, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(_GRID),
            nn.Flatten(),
            nn.Linear(2 * hidden * _GRID * _GRID, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InputError(f"image encoder: expected [B, {self.channels}, H, W], got {tuple(x.shape)}.")
        return self.layers(x.to(next(self.parameters()).dtype))


class TextEncoder(nn.Module):
    """Mean of the token embeddings, then one linear layer: ids [B, S] (0 pads) → [B, D].

    out = linear(sum_s embedding(x[:, s]) / max(1, number of tokens))
    """

    def __init__(self, vocabulary: int, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.is_floating_point():
            raise InputError(f"text encoder: expected token ids [B, S], got {x.dtype} of shape {tuple(x.shape)}.")
        tokens = (x != 0).sum(1, keepdim=True).clamp(min=1)
        # Padding embeds to zero, so that the plain sum is the sum over tokens.
        return self.linear(self.embedding(x).sum(1) / tokens)


class VectorEncoder(nn.Module):
    """Two linear layers on the flattened row, for sensors and ready-made features: [B, …] → [B, D]."""

    def __init__(self, inputs: int, width: int = 64, *, hidden: int = 128) -> None:
        super().__init__()
        self.inputs = inputs
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x[0:1].numel() != self.inputs * min(1, len(x)):
            raise InputError(f"vector encoder: expected {self.inputs} numbers per row, got shape {tuple(x.shape)}.")
        return self.layers(x.to(next(self.parameters()).dtype))


def encoder_for(name: str, column: Tensor, width: int = 64, *, vocabulary: int | None = None) -> nn.Module:
    """The encoder that fits rows like ``column`` [B, …]: ids [B, S] are text, floats [B, c, H, W] images, else vectors.

    vocabulary: number of token ids; needed for text. Raises InputError for rows that no encoder takes.
    """
    if column.ndim == 2 and column.dtype in (torch.int32, torch.int64):
        if vocabulary is None:
            raise InputError(f"modality {name!r} holds token ids; say how many there are with vocabulary=.")
        return TextEncoder(vocabulary, width)
    if column.ndim == 4:
        return ImageEncoder(column.shape[1], width)
    if column.ndim < 2:
        raise InputError(
            f"modality {name!r}: expected rows of vectors, sequences or images, got shape {tuple(column.shape)}."
        )
    return VectorEncoder(column[0].numel(), width)


def encoders_for(spec: Spec) -> dict[str, nn.Module]:
    """The encoder of every modality of ``spec``, all of its width."""
    return {
        name: encoder_for(name, column, spec.width, vocabulary=spec.vocabulary) for name, column in spec.inputs.items()
    }
