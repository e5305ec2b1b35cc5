"""A multimodal classifier whose modalities can also answer alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.classifier import MultimodalClassifier
from pyfast_mmcl.models.heads import ClassifierHead
from pyfast_mmcl.models.output import Output

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows


class ModalityHeads(MultimodalClassifier):
    """scores = head(fusion({m: encoder_m(x_m)}, present)) and, for every modality, heads[m] = head_m(encoder_m(x_m)).

    With sound and sight these are the heads av, a and v of SAMM. Arguments as MultimodalClassifier, with at least two
    modalities. Output.heads holds the scores of the single modalities; where a row lacks the modality they say nothing,
    so a method reads them together with ``present``. Raises InputError for one modality.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        n_classes: int,
        *,
        embedding: int = 64,
        features: int = 64,
        fusion: str | nn.Module = "concat",
        task_classes: Tensor | None = None,
    ) -> None:
        if len(encoders) < 2:
            raise InputError(
                f"modality heads: expected at least two modalities, got {sorted(encoders)}; "
                "with one there is nothing to compare, use MultimodalClassifier."
            )
        super().__init__(
            encoders, n_classes, embedding=embedding, features=features, fusion=fusion, task_classes=task_classes
        )
        self.heads = nn.ModuleDict({name: ClassifierHead(embedding, n_classes, task_classes) for name in encoders})

    def forward(self, batch: Rows) -> Output:
        out = super().forward(batch)
        return replace(out, heads={name: self.heads[name](x, batch.task) for name, x in out.modalities.items()})
