"""Relational distillation: the geometry of a batch, as a teacher sees it."""

from __future__ import annotations

from numbers import Real

import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_above_zero
from pyfast_mmcl.ops.contrastive import relation_distance


class RelationDistillation(nn.Module):
    """distance_weight·RKD-D + angle_weight·RKD-A: Huber distance of all pairwise distances, and of all angles.

    ``d = cdist(x, x) / mean of its positive entries;  RKD-D = huber(d_student, d_teacher).mean()``
    ``e_ij = unit(x_i - x_j);  RKD-A = huber(<e_ij, e_kj> of the student, of the teacher).mean()``

    Args:
        distance_weight: default 1, as in the authors' metric learning; SAMM: 25 with angle_weight 0.
        angle_weight: default 2, likewise; 0 leaves out the term that costs O(N³).
        delta: where Huber's square turns linear; 1 in the paper.
        normalize: unit rows first, as SAMM does with logits; default False.

    Called with student [N, D] and teacher [N, D′]; the teacher gets no gradient. Returns a scalar; 0 for fewer than
    two rows (three for angles).

    Raises:
        InputError: a weight below 0, both 0, delta not above 0, other numbers of rows.

    Reference: Park et al., Relational Knowledge Distillation, CVPR 2019.
    """

    def __init__(
        self,
        distance_weight: float = 1.0,
        angle_weight: float = 2.0,
        *,
        delta: float = 1.0,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        for name, weight in (("distance_weight", distance_weight), ("angle_weight", angle_weight)):
            if not isinstance(weight, Real) or not 0 <= float(weight) < float("inf"):
                raise InputError(f"{name}: expected a finite number of at least 0, got {weight!r}.")
        if distance_weight == 0 and angle_weight == 0:
            raise InputError("distance_weight and angle_weight: both are 0, expected at least one term.")
        self.distance_weight = float(distance_weight)
        self.angle_weight = float(angle_weight)
        self.delta = number_above_zero("delta", delta)
        self.normalize = normalize

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.normalize:
            student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
        weighted = (("distance", self.distance_weight), ("angle", self.angle_weight))
        terms = [
            weight * relation_distance(student, teacher, kind=kind, delta=self.delta)
            for kind, weight in weighted
            if weight
        ]
        return sum(terms[1:], terms[0])

    def extra_repr(self) -> str:
        return f"distance_weight={self.distance_weight:g}, angle_weight={self.angle_weight:g}, delta={self.delta:g}"
