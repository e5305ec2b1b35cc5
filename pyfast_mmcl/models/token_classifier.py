"""A small sequence model: tokens of all modalities, attention, prototypes as extra tokens, one answer token, a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.attention import Attention, check_width
from pyfast_mmcl.models.heads import ClassifierHead
from pyfast_mmcl.models.output import Output
from pyfast_mmcl.models.prototypes import PrototypeTokens
from pyfast_mmcl.models.tokens import TextTokens, check_tokenizers, joined, new_kinds, tokenizers_for

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec


class TokenClassifier(nn.Module):
    """encoder: H = attention over the tokens of all modalities; decoder: one answer token looks at [H; prototypes].

    tokenizers  {modality: ``models.tokens.Tokens``, [B, …] → [B, S, D]}
    n_types     types of question that a prototype is kept for: the number of tasks
    question    modalities that pose the question; the others are what is looked at. Default: those of token ids, else
                the second half. A single modality is both.
    Output.features is the answer token [B, D]; Output.modalities the means of the encoded "question" and "vision"
    tokens [B, D], zeros where a row has none. Raises InputError for a modality without tokenizer.

    Reference: the prototypes stand where VQACL (Zhang et al., CVPR 2023) has them; a small encoder and a decoder of one
    step take the place of VL-T5.
    """

    def __init__(
        self,
        tokenizers: Mapping[str, nn.Module],
        n_classes: int,
        *,
        n_types: int = 1,
        question: Sequence[str] | None = None,
        width: int = 64,
        task_classes: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_width(width)
        check_tokenizers(tokenizers)
        self.question = tuple(_posing(tokenizers) if question is None else question)
        if not self.question or set(self.question) - set(tokenizers):
            raise InputError(f"question: expected modalities among {sorted(tokenizers)}, got {list(self.question)}.")
        looked_at = tuple(name for name in tokenizers if name not in self.question)
        self.vision = looked_at or self.question
        self.tokenizers = nn.ModuleDict(tokenizers)
        self.kinds = new_kinds(tokenizers, width)
        self.encoder = Attention(width)
        self.prototypes = PrototypeTokens(n_types, n_classes, width)
        self.answer = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder = Attention(width)
        self.norm = nn.LayerNorm(width)
        self.head = ClassifierHead(width, n_classes, task_classes)

    @classmethod
    def for_stream(cls, spec: Spec) -> TokenClassifier:
        """A small sequence model whose tokenizers fit the rows of ``spec``."""
        classes = spec.task_classes
        return cls(tokenizers_for(spec), spec.n_classes, n_types=spec.n_tasks, width=spec.width, task_classes=classes)

    def forward(self, batch: Rows) -> Output:
        h, counts, names = joined(self.tokenizers, self.kinds, batch)
        h = self.encoder(h, h, counts)
        question, vision = (
            torch.tensor([name in side for name in names], device=h.device) for side in (self.question, self.vision)
        )
        h, counts, means = self.prototypes(h, counts, question, vision)
        features = self.norm(self.decoder(self.answer.expand(len(h), -1, -1), h, counts).squeeze(1))
        return Output(self.head(features, batch.task), features, means)


def _posing(tokenizers: Mapping[str, nn.Module]) -> list[str]:
    texts = [name for name, tokenizer in tokenizers.items() if isinstance(tokenizer, TextTokens)]
    names = list(tokenizers)
    return texts or names[len(names) // 2 :]
