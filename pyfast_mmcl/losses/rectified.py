"""Similarities of pairs held to those of a teacher, where the teacher is right; elsewhere to what is right (DKR)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses._reduce import check_reduction, reduce_rows
from pyfast_mmcl.ops.contrastive import info_nce, similarity_kl

# Rows compared at once with all rows of the other side.
_TILE = 1024
# Two pairs of the same caption are equally similar but for rounding.
_ROUNDING = 1e-6


class RectifiedSimilarity(nn.Module):
    """KL(P ‖ Q) of similarity softmaxes whose targets P are the teacher's only where it ranks the own pair first.

    ``q = softmax(student_scale * a @ b.T);  p = softmax(teacher_scale * teacher_a @ teacher_b.T)``
    ``L_i = KL(p_i ‖ q_i) if p_i is right, else 0 if q_i is right, else -log q_ii;  the mean of rows and columns``

    The 0 is what a target of sg(q_i), the student's own row, adds. No matrix of all pairs is kept. Ties count as right.

    Args:
        reduction: "mean" over all rows, "sum" or "none" ([N], the mean of both directions).

    Called with student rows a, b [N, D] and teacher rows [N, D′], all unit; scales are numbers or 0-d tensors. The
    teacher gets no gradient.

    Raises:
        InputError: other shapes.

    Reference: follows our specification of DKR (Cui et al., *Continual Vision-Language Retrieval via Dynamic Knowledge
    Rectification*, AAAI 2024), of which we know the abstract; the published targets may differ.
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_reduction(reduction)

    def forward(
        self,
        student_a: Tensor,
        student_b: Tensor,
        teacher_a: Tensor,
        teacher_b: Tensor,
        *,
        student_scale: float | Tensor = 1.0,
        teacher_scale: float | Tensor = 1.0,
    ) -> Tensor:
        if not len(student_a) == len(student_b) == len(teacher_a) == len(teacher_b):
            shapes = [list(x.shape) for x in (student_a, student_b, teacher_a, teacher_b)]
            raise InputError(f"rectified similarity: expected as many rows on all four sides, got {shapes}.")
        scales = {"student_scale": student_scale, "teacher_scale": teacher_scale}
        rows = _one_way(student_a, student_b, teacher_a, teacher_b, **scales)
        columns = _one_way(student_b, student_a, teacher_b, teacher_a, **scales)
        return reduce_rows((rows + columns) / 2, self.reduction)


def _one_way(
    a: Tensor,
    b: Tensor,
    teacher_a: Tensor,
    teacher_b: Tensor,
    *,
    student_scale: float | Tensor,
    teacher_scale: float | Tensor,
) -> Tensor:
    """L [N] of the rows of a against all rows of b."""
    kept = similarity_kl(
        a,
        b,
        teacher_a,
        teacher_b,
        student_scale=student_scale,
        teacher_scale=teacher_scale,
        direction="ab",
        reduction="none",
    )
    named = info_nce(a, b, student_scale, direction="ab", reduction="none")
    old, new = ranks_own_first(teacher_a, teacher_b), ranks_own_first(a, b)
    return torch.where(old, kept, torch.where(new, torch.zeros_like(named), named))


@torch.no_grad()
def ranks_own_first(a: Tensor, b: Tensor) -> Tensor:
    """bool [N]: rows i of a [N, D] to which no row of b [N, D] is more similar than row i, in tiles of rows."""
    found = []
    for start in range(0, len(a), _TILE):
        s = a[start : start + _TILE] @ b.mT
        own = s.diagonal(start)
        found.append(own >= s.amax(1) - _ROUNDING * own.abs())
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool, device=a.device)
