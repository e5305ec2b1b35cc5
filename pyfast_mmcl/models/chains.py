"""Encoders as chains of blocks, one weighted layer each: what masks and columns look into layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError

if TYPE_CHECKING:
    from pyfast_mmcl.models.spec import Spec

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.EmbeddingBag)
# What may stand between weighted layers: it has no weights and gives zeros for zeros, unit by unit.
_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity, nn.Dropout)
_RESHAPING = (
    *(nn.Flatten, nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
# Images are pooled to this grid before the last layer, so that one encoder takes any image size.
_GRID = 4
_HIDDEN = {"image": 16, "vector": 128}


class Block(nn.Module):
    """h → after(layer(before(h))): one weighted layer and what stands around it."""

    layer: Any

    def __init__(self, layer: nn.Module, *, before: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.before = nn.Identity() if before is None else before
        self.layer = layer
        self.after = nn.Identity() if after is None else after

    def prepared(self, h: Tensor) -> Tensor:
        """The input of the layer: [B, inputs], [B, channels, …] or token ids; numbers as precise as its weight."""
        h = self.before(h)
        if isinstance(self.layer, nn.EmbeddingBag):
            return h
        if isinstance(self.layer, nn.Linear) and h.ndim != 2:
            raise InputError(f"encoder: expected [B, inputs] before a Linear, got {tuple(h.shape)}; add an nn.Flatten.")
        return h.to(self.layer.weight.dtype)

    def forward(self, h: Tensor) -> Tensor:
        return self.after(self.layer(self.prepared(h)))


def image_chain(channels: int, width: int) -> nn.Sequential:
    """[B, channels, H, W] → [B, width]: the layers of ``models.ImageEncoder``."""
    hidden = _HIDDEN["image"]
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, 2 * hidden, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(_GRID),
        nn.Flatten(),
        nn.Linear(2 * hidden * _GRID * _GRID, width),
    )


def text_chain(vocabulary: int, width: int) -> nn.Sequential:
    """Token ids [B, S] (0 pads) → [B, width]: the mean of the tokens' embeddings, then one linear layer."""
    return nn.Sequential(nn.EmbeddingBag(vocabulary, width, mode="mean", padding_idx=0), nn.Linear(width, width))


def vector_chain(inputs: int, width: int) -> nn.Sequential:
    """[B, …] → [B, width]: two linear layers on the flattened row."""
    hidden = _HIDDEN["vector"]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, width))


def chains_for(spec: Spec) -> dict[str, nn.Sequential]:
    """{modality: the chain that fits its rows}. Raises InputError for rows that no chain takes, and where the answer
    is no class."""
    if spec.answer_length or spec.objective == "pairs":
        asked = "pairs" if spec.objective == "pairs" else f"answers of {spec.answer_length} tokens"
        raise InputError(f"model: expected a stream with one class per row, got one of {asked}; choose another method.")
    return {name: _chain_for(name, column, spec) for name, column in spec.inputs.items()}


def _chain_for(name: str, column: Tensor, spec: Spec) -> nn.Sequential:
    if column.ndim == 2 and column.dtype in (torch.int32, torch.int64):
        if spec.vocabulary is None:
            raise InputError(f"modality {name!r} holds token ids; say how many there are with vocabulary=.")
        return text_chain(spec.vocabulary, spec.width)
    if column.ndim == 4:
        return image_chain(column.shape[1], spec.width)
    if column.ndim < 2:
        raise InputError(
            f"modality {name!r}: expected rows of vectors, sequences or images, got shape {tuple(column.shape)}."
        )
    return vector_chain(column[0].numel(), spec.width)


def blocks_of(name: str, chain: nn.Module) -> nn.ModuleList:
    """The blocks of a chain: every weighted layer with the activations behind it; what reshapes is the next block's.

    Raises InputError for a module that is no Sequential of such layers: where rows, units or layers mix otherwise,
    nobody can say which weights a unit owns.
    """
    layers = list(chain) if isinstance(chain, nn.Sequential) else [chain]
    for layer in layers:
        if not isinstance(layer, (*WEIGHTED, *_ACTIVATIONS, *_RESHAPING)) or getattr(layer, "groups", 1) != 1:
            raise InputError(
                f"encoder of {name!r}: expected an nn.Sequential of Linear, Conv and EmbeddingBag layers (groups=1), "
                f"activations and pooling, got {type(layer).__name__}; leave out normalisation and shortcuts."
            )
    places = [i for i, layer in enumerate(layers) if isinstance(layer, WEIGHTED)]
    if not places:
        raise InputError(f"encoder of {name!r}: expected at least one Linear, Conv or EmbeddingBag layer, got none.")
    blocks, before = nn.ModuleList(), layers[: places[0]]
    for place, end in zip(places, [*places[1:], len(layers)], strict=True):
        between = layers[place + 1 : end]
        own = list(takewhile(lambda layer: isinstance(layer, _ACTIVATIONS), between))
        own = between if end == len(layers) else own
        blocks.append(Block(layers[place], before=nn.Sequential(*before), after=nn.Sequential(*own)))
        before = between[len(own) :]
    return blocks


def blocks_in(encoders: nn.ModuleDict, name: str) -> list[Block]:
    """The blocks of one modality, in order."""
    own = encoders[name]
    assert isinstance(own, nn.ModuleList)
    return [block for block in own if isinstance(block, Block)]


def units_of(layer: Any) -> int:
    """Units (or channels) that a weighted layer gives."""
    return int(layer.weight.shape[1 if isinstance(layer, nn.EmbeddingBag) else 0])


def join(embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """cat[p_1·e_1, …, p_V·e_V, p_1, …, p_V]: embeddings [B, D] of all modalities, zeros where one is missing, and p."""
    some = next(iter(embeddings.values()))
    flags = [
        present[name].to(some.dtype).unsqueeze(1) if name in embeddings else some.new_zeros(len(some), 1)
        for name in modalities
    ]
    columns = [
        embeddings[name] * flag if name in embeddings else torch.zeros_like(some)
        for name, flag in zip(modalities, flags, strict=True)
    ]
    return torch.cat([*columns, *flags], 1)


def check_modalities(batch_inputs: Mapping[str, Tensor], known: Sequence[str]) -> None:
    """Raise InputError for a batch that holds a modality without encoder, or none at all."""
    if set(batch_inputs) - set(known) or not batch_inputs:
        raise InputError(f"model: expected modalities among {sorted(known)}, got {sorted(batch_inputs)}.")


def check_tasks(task: Tensor, n_tasks: int) -> None:
    """Raise InputError for a row without a task id. Nothing is looked at on a GPU."""
    if task.device.type == "cpu" and len(task) and not 0 <= int(task.min()) <= int(task.max()) < n_tasks:
        raise InputError(
            f"model: expected the task id of every row, 0 to {n_tasks - 1}, got {int(task.min())} to "
            f"{int(task.max())}; use a scenario that tells it at test, such as til."
        )


def own_classes(task_classes: Tensor | None, what: str) -> Tensor:
    """bool [T, C], the classes of every task. Raises InputError where the scenario hides the task id at test."""
    if task_classes is None:
        raise InputError(
            f"{what}: it answers with the part of the model that belongs to a row's task, so the task id must be known "
            "at test; use a scenario that tells it, such as til or mdtil."
        )
    return task_classes


def put(scores: Tensor, classes: Tensor) -> Tensor:
    """Scores [B, n] of the ``classes`` (bool [C], n of them) among all C; the others get the lowest finite number."""
    rows = scores.new_full((len(scores), len(classes)), torch.finfo(scores.dtype).min)
    rows[:, classes] = scores
    return rows
