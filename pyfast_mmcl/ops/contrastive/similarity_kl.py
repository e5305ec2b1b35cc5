"""`similarity_kl`: distillation of a similarity matrix, row softmax by row softmax."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..._errors import InputError
from ..knn._checks import check_flag
from . import _inputs as inputs
from ._kl import KLTerms, distill
from ._packed import PackedReference
from .info_nce import REDUCTIONS

_NAMES = ("student_a", "student_b", "teacher_a", "teacher_b")


def similarity_kl(
    student_a: Any,
    student_b: Any,
    teacher_a: Any,
    teacher_b: Any,
    *,
    student_scale: Any,
    teacher_scale: Any,
    direction: str = "both",
    exclude_diagonal: bool = False,
    skip_wrong: bool = False,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
) -> Any:
    """KL divergence of the student's similarity softmaxes from the teacher's, without either N×M matrix.

    ``s = student_scale * student_a @ student_b.T;  t = teacher_scale * teacher_a @ teacher_b.T``
    ``L_i = (t[i].softmax(0) * (t[i].log_softmax(0) - s[i].log_softmax(0))).sum()``, rows (ab) and columns (ba)

    Args:
        student_a: [N, D] torch tensor (any device) or NumPy array, float32, float16, bfloat16, or float64 (on torch).
            N = 0 is legal and gives 0.
        student_b: [M, D]; M may differ from N. `PackedReference`: frozen rows packed once (ZSCL's reference texts).
        teacher_a: [N, D′]; the teacher's sides are constants whether or not they require a gradient.
        teacher_b: [M, D′], or `PackedReference`.
        student_scale: 1/temperature of the student, a number or a 0-d tensor (with a gradient where it requires one).
        teacher_scale: 1/temperature of the teacher; a constant.
        direction: "both" (half the sum of both), "ab" (softmax over rows of b) or "ba" (over rows of a).
        exclude_diagonal: leave the pairs i = j out of both softmaxes (CTP's intra-modal term).
        skip_wrong: row i contributes 0 where the teacher ranks some j above i, t_ij > t_ii (Mod-X); it stays in the
            mean. Ties count as right. Needs N = M.
        reduction: "mean" over all rows (default), "sum", or "none": [N] ("ab"), [M] ("ba"), ½(both) with N = M.
        precision: "auto" (bfloat16 tiles for bfloat16 rows, else float32), "float32" or "bfloat16".
        backend: "auto" | "torch" | "native" | "triton"; one asked for by name never falls back.

    Returns:
        0-d float32 (float64 for float64 rows), or per row; for NumPy input a float or an array. NaN in a row gives NaN.
        No factor T² is applied.

    Raises:
        InputError: shapes that do not fit, device mix, `skip_wrong` with N ≠ M or `exclude_diagonal`, unknown word.
        BackendError: the backend asked for by name cannot run.
        RuntimeError: a derivative of the gradient was asked for.

    Reference: Hinton et al. 2015; Zheng et al. 2023 (ZSCL), eq. 3; Ni et al. 2023 (Mod-X); Zhu et al. 2023 (CTP).
    """
    inputs.check_word("direction", direction, inputs.DIRECTIONS)
    inputs.check_word("reduction", reduction, REDUCTIONS)
    sa, sb, ta, tb = _four_sides(student_a, student_b, teacher_a, teacher_b)
    exclude_diagonal = check_flag(exclude_diagonal, "exclude_diagonal")
    skip_wrong = check_flag(skip_wrong, "skip_wrong")
    n, m = sa.shape[0], sb.shape[0]
    _check_options(n, m, direction, exclude_diagonal, skip_wrong, reduction)
    precision = inputs.precision_of(precision, sa, student_b, teacher_b)
    half = 0.5 if direction == "both" else 1.0
    mean = reduction == "mean"
    terms = KLTerms(
        None if direction == "ba" else half / max(n, 1) if mean else half,
        None if direction == "ab" else half / max(m, 1) if mean else half,
        reduction != "none",
        exclude_diagonal,
        skip_wrong,
        precision,
        backend,
        student_b if isinstance(student_b, PackedReference) else None,
        teacher_b if isinstance(teacher_b, PackedReference) else None,
        exclude_diagonal or 0 in (n, m),
    )
    s_scale = inputs.scalar(student_scale, "student_scale")
    t_scale = inputs.scalar(teacher_scale, "teacher_scale")
    return inputs.give_back(distill(sa, sb, ta, tb, s_scale, t_scale, terms), student_a)


def _four_sides(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sa, sb = inputs.pair_of(given[0], given[1], _NAMES[:2])
    ta, tb = inputs.pair_of(given[2], given[3], _NAMES[2:])
    for own, other, names in ((sa, ta, (0, 2)), (sb, tb, (1, 3))):
        student, teacher = _NAMES[names[0]], _NAMES[names[1]]
        if own.shape[0] != other.shape[0]:
            raise InputError(
                f"{student} and {teacher}: expected the same number of rows, got {own.shape[0]} and {other.shape[0]}."
            )
        inputs.same_home(own, other, (student, teacher))
    if sa.dtype != ta.dtype:
        sa, sb, ta, tb = sa.float(), sb.float(), ta.float(), tb.float()
    return sa, sb, ta.detach(), tb.detach()


def _check_options(n: int, m: int, direction: str, exclude_diagonal: bool, skip_wrong: bool, reduction: str) -> None:
    if skip_wrong and exclude_diagonal:
        raise InputError(
            "skip_wrong: expected exclude_diagonal=False, since it compares with the diagonal; choose one of the two."
        )
    if n == m:
        return
    if skip_wrong:
        raise InputError(f"skip_wrong: expected as many rows on both sides, got {n} and {m}; row i belongs to row i.")
    if direction == "both" and reduction == "none":
        raise InputError(
            f'reduction="none": expected as many rows on both sides for both directions, got {n} and {m}; '
            'use direction="ab" or "ba".'
        )
