"""What a model gives for a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Output:
    """Row i of every tensor depends on row i of the batch alone.

    scores      [B, C] (or [B, S, C] for generated answers), before any softmax
    features    [B, D] input of the head (of generated answers its mean over positions), or None
    modalities  {modality: [B, D]} embedding of each modality before fusion
    heads       {modality: [B, C]} scores of each modality alone, where the model has such heads
    """

    scores: Tensor
    features: Tensor | None = None
    modalities: dict[str, Tensor] = field(default_factory=dict)
    heads: dict[str, Tensor] = field(default_factory=dict)

    def map(self, change: Callable[[Tensor], Tensor]) -> Output:
        """The same with ``change`` applied to every tensor."""
        return Output(
            change(self.scores),
            None if self.features is None else change(self.features),
            {name: change(x) for name, x in self.modalities.items()},
            {name: change(x) for name, x in self.heads.items()},
        )

    def to(self, device: torch.device | str) -> Output:
        """The same on ``device``."""
        return self.map(lambda x: x.to(device))
