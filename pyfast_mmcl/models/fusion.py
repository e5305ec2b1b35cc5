"""Joining the embeddings of several modalities, some of them missing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ConcatFusion(nn.Module):
    """Concatenation with presence: features = relu(linear(cat[p_1·e_1, …, p_V·e_V, p])).

    Embeddings {modality: [B, D]} and presence {modality: bool [B]} → features [B, width]. The presence flags are part
    of the input, so that a missing modality is not mistaken for one whose embedding is zero; a modality that is absent
    from the dictionaries counts as missing in every row.
    """

    def __init__(self, modalities: tuple[str, ...], embedding: int, width: int = 64) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.embedding = embedding
        self.linear = nn.Linear(len(self.modalities) * (embedding + 1), width)

    def forward(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        some = next(iter(embeddings.values()))
        columns, flags = [], []
        for name in self.modalities:
            if name in embeddings:
                flag = present[name].to(some.dtype).unsqueeze(1)
                columns.append(embeddings[name] * flag)
            else:
                flag = some.new_zeros(len(some), 1)
                columns.append(some.new_zeros(len(some), self.embedding))
            flags.append(flag)
        return torch.relu(self.linear(torch.cat([*columns, *flags], dim=1)))
