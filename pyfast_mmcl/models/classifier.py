"""A plain multimodal classifier: one encoder per modality, fusion, one head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.encoders import encoders_for
from pyfast_mmcl.models.fusion import fusion_for
from pyfast_mmcl.models.heads import ClassifierHead
from pyfast_mmcl.models.output import Output

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec


class MultimodalClassifier(nn.Module):
    """scores = head(fusion({m: encoder_m(x_m)}, present)).

    encoders      {modality: module [B, …] → [B, embedding]}
    embedding     width of every embedding; features: width after fusion
    fusion        name in ``models.fusion.FUSIONS`` ("concat", "attention", "confidence", "gated"), or a module called
                  with (embeddings, present)
    task_classes  bool [T, C] where rows are scored on the classes of their own task (task-incremental)
    Called on a batch with ``inputs``, ``present`` and ``task``; returns Output. Raises InputError when the batch holds
    a modality without encoder, or none at all.
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
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion_for(fusion, tuple(encoders), embedding, features)
        self.head = ClassifierHead(features, n_classes, task_classes)

    @classmethod
    def for_stream(cls, spec: Spec) -> MultimodalClassifier:
        """A small classifier whose encoders fit the rows of ``spec``."""
        width, classes = spec.width, spec.task_classes
        return cls(encoders_for(spec), spec.n_classes, embedding=width, features=width, task_classes=classes)

    def forward(self, batch: Rows) -> Output:
        unknown = set(batch.inputs) - set(self.encoders)
        if unknown or not batch.inputs:
            raise InputError(f"model: expected modalities among {sorted(self.encoders)}, got {sorted(batch.inputs)}.")
        embeddings = {name: self.encoders[name](x) for name, x in batch.inputs.items()}
        features = self.fusion(embeddings, batch.present)
        return Output(self.head(features, batch.task), features, embeddings)
