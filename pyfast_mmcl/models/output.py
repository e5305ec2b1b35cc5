"""What a model gives for a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Output:
    """Row i of every tensor depends on row i of the batch alone.

    scores      [B, C] (or [B, S, C] for generated answers), before any softmax
    features    [B, D] input of the head, or None
    modalities  {modality: [B, D]} embedding of each modality before fusion
    heads       {modality: [B, C]} scores of each modality alone, where the model has such heads
    """

    scores: Tensor
    features: Tensor | None = None
    modalities: dict[str, Tensor] = field(default_factory=dict)
    heads: dict[str, Tensor] = field(default_factory=dict)
