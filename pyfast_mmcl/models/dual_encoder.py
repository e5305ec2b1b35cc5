"""A dual encoder of pairs: two towers into one space, as CLIP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.encoders import encoders_for
from pyfast_mmcl.models.fusion import ConcatFusion
from pyfast_mmcl.models.output import Output

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec

# CLIP §2.5: the temperature at the start.
_TEMPERATURE = 0.07


class DualEncoder(nn.Module):
    """Two towers: modalities[side] = unit(linear(fusion({m: encoder_m(x_m)}))), rows [B, D] of length 1.

    encoders   {modality: module [B, …] → [B, embedding]}
    sides      {name: modalities of this side}, two of them that share no modality; by default the first half of the
               modalities (an image, the sensors of a phone) against the second half (its caption, those of a watch)
    n_classes  width of ``scores``. Towers alone name no class, so the scores are all 0; a method that has seen rows of
               the classes gives better ones
    logit_scale  parameter, log(1/temperature), at the start log(1/0.07) as in CLIP

    The embedding of a row that lacks a whole side is 0. Raises InputError for fewer than two modalities, and when the
    batch holds a modality without encoder, or none at all.

    Reference: Radford et al., CLIP, ICML 2021.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        n_classes: int,
        *,
        sides: Mapping[str, Sequence[str]] | None = None,
        embedding: int = 64,
        features: int = 64,
    ) -> None:
        super().__init__()
        self.sides = _halves(tuple(encoders)) if sides is None else {name: tuple(own) for name, own in sides.items()}
        listed = [name for own in self.sides.values() for name in own]
        if len(self.sides) != 2 or sorted(listed) != sorted(encoders) or not all(self.sides.values()):
            raise InputError(
                f"dual encoder: expected two sides that share out the modalities {sorted(encoders)}, got {self.sides}."
            )
        self.n_classes = n_classes
        self.encoders = nn.ModuleDict(encoders)
        self.fusions = nn.ModuleDict({side: ConcatFusion(own, embedding, features) for side, own in self.sides.items()})
        self.projections = nn.ModuleDict({side: nn.Linear(features, features) for side in self.sides})
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))

    @classmethod
    def for_stream(cls, spec: Spec) -> DualEncoder:
        """A small dual encoder whose towers fit the rows of ``spec``; task_classes is not used."""
        return cls(encoders_for(spec), spec.n_classes, embedding=spec.width, features=spec.width)

    def forward(self, batch: Rows) -> Output:
        unknown = set(batch.inputs) - set(self.encoders)
        if unknown or not batch.inputs:
            raise InputError(f"model: expected modalities among {sorted(self.encoders)}, got {sorted(batch.inputs)}.")
        embeddings = {name: self.encoders[name](x) for name, x in batch.inputs.items()}
        some = next(iter(embeddings.values()))
        sides = {}
        for side, own in self.sides.items():
            shown = {name: embeddings[name] for name in own if name in embeddings}
            if not shown:
                sides[side] = some.new_zeros(len(some), self.projections[side].out_features)
                continue
            rows = self.projections[side](self.fusions[side](shown, batch.present))
            there = torch.stack([batch.present[name] for name in shown]).any(0)
            sides[side] = F.normalize(rows, dim=-1) * there.unsqueeze(1)
        return Output(some.new_zeros(len(some), self.n_classes), None, sides)


def _halves(modalities: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    if len(modalities) < 2:
        raise InputError(
            f"dual encoder: expected at least two modalities, got {list(modalities)}; a pair needs two sides."
        )
    middle = len(modalities) // 2
    return {" + ".join(own): own for own in (modalities[:middle], modalities[middle:])}
