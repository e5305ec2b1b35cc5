"""A small sequence model: tokens of all modalities, attention, prototypes as extra tokens, one answer token, a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.heads import ClassifierHead
from pyfast_mmcl.models.output import Output
from pyfast_mmcl.models.prototypes import PrototypeTokens
from pyfast_mmcl.models.tokens import TextTokens, Tokens, tokens_for

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec

_ATTENTION_HEADS = 4


class Attention(nn.Module):
    """x + attention(norm(x) over norm(memory)), then x + mlp(norm(x)); tokens that do not count are not looked at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_x, self.norm_memory, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, memory: Tensor, counting: Tensor) -> Tensor:
        """x [B, S, D] looks at memory [B, S', D], of which counting bool [B, S'] says what stands for something."""

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(2, (_ATTENTION_HEADS, -1)).transpose(1, 2)

        key, value = self.key_value(self.norm_memory(memory)).chunk(2, -1)
        # Attention over nothing is NaN: a row without any token looks at what stands in its place, the same for all.
        mask = (counting | ~counting.any(1, keepdim=True))[:, None, None, :]
        seen = F.scaled_dot_product_attention(heads(self.query(self.norm_x(x))), heads(key), heads(value), mask)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


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
        if width % _ATTENTION_HEADS:
            raise InputError(f"width: expected a multiple of {_ATTENTION_HEADS}, the attention heads, got {width}.")
        for name, tokenizer in tokenizers.items():
            if not isinstance(tokenizer, Tokens):
                raise InputError(
                    f"tokenizer of {name!r}: expected a models.tokens.Tokens, got {type(tokenizer).__name__}."
                )
        self.question = tuple(_posing(tokenizers) if question is None else question)
        if not self.question or set(self.question) - set(tokenizers):
            raise InputError(f"question: expected modalities among {sorted(tokenizers)}, got {list(self.question)}.")
        looked_at = tuple(name for name in tokenizers if name not in self.question)
        self.vision = looked_at or self.question
        self.tokenizers = nn.ModuleDict(tokenizers)
        self.kinds = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.02) for name in tokenizers})
        self.encoder = Attention(width)
        self.prototypes = PrototypeTokens(n_types, n_classes, width)
        self.answer = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder = Attention(width)
        self.norm = nn.LayerNorm(width)
        self.head = ClassifierHead(width, n_classes, task_classes)

    @classmethod
    def for_stream(cls, spec: Spec) -> TokenClassifier:
        """A small sequence model whose tokenizers fit the rows of ``spec``."""
        tokenizers = {
            name: tokens_for(name, column, spec.width, vocabulary=spec.vocabulary)
            for name, column in spec.inputs.items()
        }
        classes = spec.task_classes
        return cls(tokenizers, spec.n_classes, n_types=spec.n_tasks, width=spec.width, task_classes=classes)

    def forward(self, batch: Rows) -> Output:
        unknown = set(batch.inputs) - set(self.tokenizers)
        if unknown or not batch.inputs:
            raise InputError(f"model: expected modalities among {sorted(self.tokenizers)}, got {sorted(batch.inputs)}.")
        tokens, counting, names = [], [], []
        for name, x in batch.inputs.items():
            tokenizer = self.tokenizers[name]
            assert isinstance(tokenizer, Tokens)
            found = tokenizer(x) + self.kinds[name]
            tokens.append(found)
            counting.append(tokenizer.counting(x, found) & batch.present[name].unsqueeze(1))
            names += [name] * found.shape[1]
        h, counts = torch.cat(tokens, 1), torch.cat(counting, 1)
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
