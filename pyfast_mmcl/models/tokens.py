"""Tokenizers of one modality: a tensor of rows in, tokens [B, S, D] and which of them count [B, S] out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec

# An image becomes this grid of tokens and a series this many, so that one tokenizer takes any size.
_GRID = 4
_STEPS = 8


class Tokens(nn.Module):
    """A tokenizer [B, …] → [B, S, D]. All its tokens count, unless it knows better."""

    def counting(self, x: Tensor, tokens: Tensor) -> Tensor:
        """bool [B, S]: which tokens stand for something."""
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


class ImageTokens(Tokens):
    """Two 3×3 convolutions pooled to a 4×4 grid of tokens: [B, channels, H, W] → [B, 16, D]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(_GRID),
            nn.Flatten(2),
        )
        self.linear = nn.Linear(width, width)
        self.positions = nn.Parameter(torch.randn(_GRID * _GRID, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.layers(x.to(self.positions.dtype)).mT) + self.positions


class SeriesTokens(Tokens):
    """A series in 8 pieces, one token each: [B, channels, L] → [B, 8, D], every piece flattened through one layer."""

    def __init__(self, channels: int, length: int, width: int) -> None:
        super().__init__()
        self.piece = -(-length // _STEPS)
        self.linear = nn.Linear(channels * self.piece, width)
        self.positions = nn.Parameter(torch.randn(_STEPS, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x.to(self.positions.dtype), (0, _STEPS * self.piece - x.shape[2]))
        pieces = x.unflatten(2, (_STEPS, self.piece)).transpose(1, 2).flatten(2)
        return self.linear(pieces) + self.positions


class TextTokens(Tokens):
    """Embeddings of token ids and their places: [B, S] (0 pads and does not count) → [B, S, D]."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x) + self.positions[: x.shape[1]]

    def counting(self, x: Tensor, tokens: Tensor) -> Tensor:
        return x != 0


class VectorTokens(Tokens):
    """A vector as one token: [B, D'] → [B, 1, D]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1).to(self.linear.weight.dtype)).unsqueeze(1)


def tokens_for(name: str, column: Tensor, width: int, *, vocabulary: int | None = None) -> Tokens:
    """The tokenizer that fits rows like ``column``: ids [B, S] are text, [B, c, H, W] images, [B, c, L] series.

    vocabulary: number of token ids; needed for text. Raises InputError for rows that no tokenizer takes.
    """
    if column.ndim == 2 and column.dtype in (torch.int32, torch.int64):
        if vocabulary is None:
            raise InputError(f"modality {name!r} holds token ids; say how many there are with vocabulary=.")
        return TextTokens(vocabulary, column.shape[1], width)
    if column.ndim == 4:
        return ImageTokens(column.shape[1], width)
    if column.ndim == 3:
        return SeriesTokens(column.shape[1], column.shape[2], width)
    if column.ndim < 2:
        raise InputError(
            f"modality {name!r}: expected rows of vectors, sequences or images, got shape {tuple(column.shape)}."
        )
    return VectorTokens(column[0].numel(), width)


def tokenizers_for(spec: Spec) -> dict[str, nn.Module]:
    """{modality: the tokenizer that fits the rows of ``spec``}."""
    return {
        name: tokens_for(name, column, spec.width, vocabulary=spec.vocabulary) for name, column in spec.inputs.items()
    }


def check_tokenizers(tokenizers: Mapping[str, nn.Module]) -> None:
    """Raise InputError for a module that is no Tokens."""
    for name, tokenizer in tokenizers.items():
        if not isinstance(tokenizer, Tokens):
            raise InputError(f"tokenizer of {name!r}: expected a models.tokens.Tokens, got {type(tokenizer).__name__}.")


def joined(tokenizers: nn.ModuleDict, kinds: nn.ParameterDict, batch: Rows) -> tuple[Tensor, Tensor, list[str]]:
    """Tokens of all modalities, each marked by its kind [D], in one sequence [B, S, D].

    Returns the sequence, what counts in it bool [B, S] (nothing of a missing modality does) and the modality of each of
    its S places. Raises InputError when the batch holds a modality without tokenizer, or none at all.
    """
    unknown = set(batch.inputs) - set(tokenizers)
    if unknown or not batch.inputs:
        raise InputError(f"model: expected modalities among {sorted(tokenizers)}, got {sorted(batch.inputs)}.")
    tokens, counting, names = [], [], []
    for name, x in batch.inputs.items():
        tokenizer = tokenizers[name]
        assert isinstance(tokenizer, Tokens)
        found = tokenizer(x) + kinds[name]
        tokens.append(found)
        counting.append(tokenizer.counting(x, found) & batch.present[name].unsqueeze(1))
        names += [name] * found.shape[1]
    return torch.cat(tokens, 1), torch.cat(counting, 1), names


def new_kinds(tokenizers: Mapping[str, nn.Module], width: int) -> nn.ParameterDict:
    """The marks [D] by which the tokens of one modality are told from those of another."""
    return nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.02) for name in tokenizers})
