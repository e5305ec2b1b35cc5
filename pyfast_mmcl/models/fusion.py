"""Joining the embeddings of several modalities, some of them missing, into one vector of features.

Every fusion is built from (modalities, embedding, width) and called with embeddings {modality: [B, D]} and presence
{modality: bool [B]}; it gives features [B, width]. Row i depends on row i alone, what an embedding holds where its
modality is missing changes nothing, and a modality absent from the dictionaries counts as missing in every row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.models.attention import Attention


class Fusion(nn.Module):
    """Modalities as columns. Raises InputError for embeddings of another modality or width, or none at all."""

    def __init__(self, modalities: tuple[str, ...], embedding: int, width: int = 64) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.embedding = whole_number("embedding", embedding)
        self.width = whole_number("width", width)
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise InputError(f"fusion: expected one or more different modalities, got {list(self.modalities)}.")

    def columns(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings [B, V, D], zeros where missing, and presence bool [B, V], in the order of ``modalities``."""
        unknown = set(embeddings) - set(self.modalities)
        if unknown or not embeddings:
            raise InputError(f"fusion: expected modalities among {list(self.modalities)}, got {sorted(embeddings)}.")
        some = next(iter(embeddings.values()))
        for name, x in embeddings.items():
            if x.shape != (len(some), self.embedding):
                raise InputError(
                    f"fusion: expected embeddings {(len(some), self.embedding)}, got {tuple(x.shape)} for {name!r}."
                )
        nothing = some.new_zeros(len(some), self.embedding)
        absent = torch.zeros(len(some), dtype=torch.bool, device=some.device)
        flags = torch.stack([present[m] if m in embeddings else absent for m in self.modalities], 1)
        columns = torch.stack([embeddings.get(m, nothing) for m in self.modalities], 1)
        # Not a product: an infinity in a missing modality would become NaN.
        return columns.masked_fill(~flags.unsqueeze(2), 0.0), flags


class ConcatFusion(Fusion):
    """Concatenation with presence: features = relu(linear(cat[p_1·e_1, …, p_V·e_V, p])).

    The presence flags are part of the input, so that a missing modality is not mistaken for one whose embedding is
    zero.
    """

    def __init__(self, modalities: tuple[str, ...], embedding: int, width: int = 64) -> None:
        super().__init__(modalities, embedding, width)
        self.linear = nn.Linear(len(self.modalities) * (embedding + 1), width)

    def forward(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        columns, flags = self.columns(embeddings, present)
        return torch.relu(self.linear(torch.cat([columns.flatten(1), flags.to(columns.dtype)], dim=1)))


class GatedFusion(Fusion):
    """Gated multimodal unit: features = Σ_m g_m ⊙ tanh(value_m(e_m)), a gate per modality and feature.

    ``g = softmax over the present modalities of gate(cat[e, p]).unflatten(1, (V, width))``

    With two modalities, both present, g is (z, 1 − z) with z a sigmoid: the bimodal unit of the paper. For more it has
    an independent sigmoid per modality; the softmax keeps the features' size whatever is missing. Features of a row
    without any modality are 0.

    Reference: Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR 2017 workshop, §3.1.
    """

    def __init__(self, modalities: tuple[str, ...], embedding: int, width: int = 64) -> None:
        super().__init__(modalities, embedding, width)
        n = len(self.modalities)
        self.values = nn.ModuleDict({name: nn.Linear(embedding, width) for name in self.modalities})
        self.gate = nn.Linear(n * (embedding + 1), n * width)

    def forward(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        columns, flags = self.columns(embeddings, present)
        gates = self.gate(torch.cat([columns.flatten(1), flags.to(columns.dtype)], dim=1))
        shares = masked_softmax(gates.unflatten(1, (len(self.modalities), self.width)), flags.unsqueeze(2))
        return (shares * _applied(self.values, columns).tanh()).sum(1)


class ConfidenceFusion(Fusion):
    """Confidence-weighted mean: features = relu(Σ_m w_m · value_m(e_m)), w_m = p_m·c_m / Σ_m' p_m'·c_m'.

    ``c_m = sigmoid(confidence_m(e_m))``: how much a modality trusts what it has seen in the row, read from its own
    embedding alone, so that it does not depend on what else is there. A row without any modality has features 0.

    Reference: after Han et al., Multimodal Dynamics, CVPR 2022, §3.2, who weigh modalities by a confidence in (0, 1)
    and teach it the probability of the true class; ours is learnt from the loss of the task alone, and the weights are
    divided by their sum.
    """

    def __init__(self, modalities: tuple[str, ...], embedding: int, width: int = 64) -> None:
        super().__init__(modalities, embedding, width)
        self.values = nn.ModuleDict({name: nn.Linear(embedding, width) for name in self.modalities})
        self.confidence = nn.ModuleDict({name: nn.Linear(embedding, 1) for name in self.modalities})

    def forward(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        columns, flags = self.columns(embeddings, present)
        weights = self._weights(columns, flags)
        return torch.relu((weights.unsqueeze(2) * _applied(self.values, columns)).sum(1))

    def weights(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """w [B, V] in the order of ``modalities``: rows sum to 1, or are 0 where nothing is present."""
        return self._weights(*self.columns(embeddings, present))

    def _weights(self, columns: Tensor, flags: Tensor) -> Tensor:
        # c_m / Σ c as a softmax of log c: confidences that underflow still have a ratio.
        log_c = nn.functional.logsigmoid(_applied(self.confidence, columns).squeeze(2))
        return masked_softmax(log_c, flags)


class AttentionFusion(Fusion):
    """Attention: a learned token looks at itself and at the modalities that are present; features are its state.

    ``features = norm(attention(token, [token, e_1 + kind_1, …, e_V + kind_V], present))``, then one linear layer

    embedding: a multiple of 4, the attention heads. A row without any modality gets the features of the token alone.

    Reference: after the class token of Dosovitskiy et al., An Image is Worth 16×16 Words, ICLR 2021, one block.
    """

    def __init__(self, modalities: tuple[str, ...], embedding: int, width: int = 64) -> None:
        super().__init__(modalities, embedding, width)
        self.token = nn.Parameter(torch.randn(embedding) * 0.02)
        self.kinds = nn.Parameter(torch.randn(len(self.modalities), embedding) * 0.02)
        self.attention = Attention(embedding)
        self.norm = nn.LayerNorm(embedding)
        self.linear = nn.Linear(embedding, width)

    def forward(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        columns, flags = self.columns(embeddings, present)
        token = self.token.expand(len(columns), 1, -1)
        memory = torch.cat([token, columns + self.kinds], 1)
        counting = torch.cat([torch.ones_like(flags[:, :1]), flags], 1)
        return self.linear(self.norm(self.attention(token, memory, counting).squeeze(1)))


FUSIONS: dict[str, type[Fusion]] = {
    "concat": ConcatFusion,
    "attention": AttentionFusion,
    "confidence": ConfidenceFusion,
    "gated": GatedFusion,
}


def fusion_for(fusion: str | nn.Module, modalities: tuple[str, ...], embedding: int, width: int) -> nn.Module:
    """The fusion of this name in FUSIONS, or the module that is given. Raises UnknownNameError."""
    if isinstance(fusion, nn.Module):
        return fusion
    if fusion not in FUSIONS:
        raise unknown_name("fusion", fusion, FUSIONS)
    return FUSIONS[fusion](modalities, embedding, width)


def masked_softmax(x: Tensor, counts: Tensor) -> Tensor:
    """softmax over dimension 1 among what ``counts``; zeros where nothing does."""
    shares = x.masked_fill(~counts, torch.finfo(x.dtype).min).softmax(1)
    return shares.masked_fill(~counts, 0.0)


def _applied(layers: nn.ModuleDict, columns: Tensor) -> Tensor:
    """Each modality's own layer on its column: [B, V, D] → [B, V, width]."""
    return torch.stack([layer(columns[:, i]) for i, layer in enumerate(layers.values())], 1)
