"""Encoders of one modality: a tensor of rows in, embeddings [B, D] out. No layer mixes rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.models.encoders_signals import SeriesEncoder, SpectrogramEncoder

if TYPE_CHECKING:
    from pyfast_mmcl.models.spec import Spec

# Images are pooled to this grid before the last layer, so that one encoder takes any image size.
_GRID = 4
# Axes that the rows of each kind of encoder have, the batch's included.
_AXES: dict[str, tuple[int, ...]] = {
    "image": (4,),
    "text": (2,),
    "vector": (2, 3, 4, 5),
    "series": (3,),
    "spectrogram": (3,),
    "waveform": (2,),
}
# Samples of a frame of sound: 16 ms at 16 kHz.
_N_FFT = 256


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


def encoder_for(
    name: str, column: Tensor, width: int = 64, *, vocabulary: int | None = None, kind: str | None = None
) -> nn.Module:
    """The encoder that fits rows like ``column`` [B, …].

    kind        "image", "text", "vector", "series" (sensors [B, c, L]), "spectrogram" [B, F, S] or "waveform" [B, L];
                by default ids [B, S] are text, [B, c, H, W] images, and everything else vectors
    vocabulary  number of token ids; needed for text

    Raises InputError for rows that the encoder does not take, UnknownNameError for another kind.
    """
    kind = _kind_of(name, column) if kind is None else kind
    if kind not in _AXES:
        raise unknown_name(f"kind of encoder for {name!r}", kind, _AXES)
    if column.ndim not in _AXES[kind]:
        axes = " or ".join(map(str, _AXES[kind]))
        raise InputError(
            f"modality {name!r}: an encoder of kind {kind!r} takes rows of {axes} axes, the batch's included, got "
            f"shape {tuple(column.shape)}."
        )
    if kind == "text":
        if vocabulary is None:
            raise InputError(f"modality {name!r} holds token ids; say how many there are with vocabulary=.")
        return TextEncoder(vocabulary, width)
    if kind == "vector":
        return VectorEncoder(column[0].numel(), width)
    if kind == "image":
        return ImageEncoder(column.shape[1], width)
    if kind == "series":
        return SeriesEncoder(column.shape[1], width)
    return SpectrogramEncoder(width, n_fft=_N_FFT if kind == "waveform" else None)


def encoders_for(spec: Spec, *, kinds: Mapping[str, str] | None = None) -> dict[str, nn.Module]:
    """The encoder of every modality of ``spec``, all of its width; kinds {modality: kind of encoder}, where not plain.

    Raises UnknownNameError for a modality that the rows do not have.
    """
    for name in kinds or {}:
        if name not in spec.inputs:
            raise unknown_name("modality", name, spec.inputs)
    return {
        name: encoder_for(name, column, spec.width, vocabulary=spec.vocabulary, kind=(kinds or {}).get(name))
        for name, column in spec.inputs.items()
    }


def _kind_of(name: str, column: Tensor) -> str:
    if column.ndim == 2 and column.dtype in (torch.int32, torch.int64):
        return "text"
    if column.ndim < 2:
        raise InputError(
            f"modality {name!r}: expected rows of vectors, sequences or images, got shape {tuple(column.shape)}."
        )
    return "image" if column.ndim == 4 else "vector"
