"""Distillation of similarity matrices: whom a row resembles, according to a teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import number_above_zero
from pyfast_mmcl.losses._reduce import check_reduction
from pyfast_mmcl.ops.contrastive import PackedReference, similarity_kl


class SimilarityDistillation(nn.Module):
    """T²·KL(softmax_j(teacher similarities / T) ‖ softmax_j(student similarities / T)), without the N×M matrices.

    ``p = softmax(teacher_scale / T * teacher_a @ teacher_b.T);  q = softmax(student_scale / T * a @ b.T)``
    ``rows = T**2 * (p * (p.log() - q.log())).sum(1)``; "both" averages it with the same over the columns.

    The settings of the methods that use it (dir. = direction, mean over rows unless said):

    method                 T    scale_T2  dir.   options
    ZSCL, each modality    2    True      "ab"   b of both sides: frozen reference rows, packed once (PackedReference)
    Mod-X                  1    –         "both" skip_wrong=True; scales of each model (the authors': 1, "sum")
    KDR-style              2    True      "both"
    CTP, cross-modal       1    –         "both" scales 1/0.07
    CTP, within a modality 1    –         "ab"   b = None, exclude_diagonal=True

    Args:
        temperature: T > 0; default 1, softmax of the scaled similarities themselves.
        scale_T2: multiply by T² (Hinton et al. 2015, §2); default True, as in ZSCL.
        direction: "both" (rows and columns, halved), "ab" (rows) or "ba" (columns).
        exclude_diagonal: leave the pairs (i, i) out of both softmaxes (CTP within a modality).
        skip_wrong: a row whose teacher ranks another row above its own pair contributes 0 (Mod-X).
        reduction: "mean" over all rows (skipped ones count as 0), "sum" or "none".
        precision, backend: as `ops.contrastive.similarity_kl`.

    Called with student rows a [N, D] and b [M, D] (None: a itself), teacher rows of any width; unit rows for cosine
    similarity; b may be a `PackedReference`. The teacher gets no gradient, the student's rows and scale do.

    Raises:
        InputError: as `ops.contrastive.similarity_kl`; temperature not above 0.

    Reference: Zheng et al., ZSCL, ICCV 2023; Ni et al., Mod-X, ICML 2023; Zhu et al., CTP, ICCV 2023; KDR, ACM MM 2023.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        scale_T2: bool = True,
        direction: str = "both",
        exclude_diagonal: bool = False,
        skip_wrong: bool = False,
        reduction: str = "mean",
        precision: str = "auto",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.temperature = number_above_zero("temperature", temperature)
        self.scale_T2 = scale_T2
        self.direction = direction
        self.exclude_diagonal = exclude_diagonal
        self.skip_wrong = skip_wrong
        self.reduction = check_reduction(reduction)
        self.precision = precision
        self.backend = backend

    def forward(
        self,
        student_a: Tensor,
        student_b: Tensor | PackedReference | None,
        teacher_a: Tensor,
        teacher_b: Tensor | PackedReference | None,
        *,
        student_scale: float | Tensor = 1.0,
        teacher_scale: float | Tensor = 1.0,
    ) -> Tensor:
        loss = similarity_kl(
            student_a,
            student_a if student_b is None else student_b,
            teacher_a,
            teacher_a if teacher_b is None else teacher_b,
            student_scale=student_scale / self.temperature,
            teacher_scale=_constant(teacher_scale) / self.temperature,
            direction=self.direction,
            exclude_diagonal=self.exclude_diagonal,
            skip_wrong=self.skip_wrong,
            reduction=self.reduction,
            precision=self.precision,
            backend=self.backend,
        )
        return self.temperature**2 * loss if self.scale_T2 else loss

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature:g}, scale_T2={self.scale_T2}, direction={self.direction!r}, "
            f"exclude_diagonal={self.exclude_diagonal}, skip_wrong={self.skip_wrong}"
        )


def _constant(scale: float | Tensor) -> float | Tensor:
    return scale.detach() if isinstance(scale, torch.Tensor) else scale
