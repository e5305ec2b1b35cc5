"""KL between similarity softmaxes: value and gradients from the primitives, in eager mode and under torch.compile."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._gradients import once
from ._inputs import as_scalar_tensor, number
from ._pairs import KLPull, KLSide, kl_grads, kl_stats


class KLTerms(NamedTuple):
    """What the loss says beside its rows and scales."""

    row_weight: float | None  # of every row's KL; None: rows have no term
    col_weight: float | None
    reduce: bool
    exclude_diagonal: bool
    skip_wrong: bool
    precision: str
    backend: str
    packed_student: Any = None  # PackedReference whose rows sb, or tb, is
    packed_teacher: Any = None
    may_be_empty: bool = True  # a row may have no pair at all


def _losses(side: KLSide, t: KLTerms) -> Tensor:
    """cross/t_sum − lse_t + lse_s in float64, 0 for a row that has nothing to compare; overwrites ``side.cross``."""
    loss = side.cross.div_(side.t_sum).add_(side.s_max).sub_(side.t_max).add_((side.s_sum / side.t_sum).log_())
    gone = _gone(side, t)
    return loss if gone is None else loss.masked_fill_(gone, 0)


def _gone(side: KLSide, t: KLTerms) -> Tensor | None:
    # Rows without a term: nothing is left beside the diagonal, the other side is empty, or the teacher is wrong.
    if t.skip_wrong:
        return ~side.t_right
    return side.t_sum == 0 if t.may_be_empty else None


def loss_with_sums(
    sa: Tensor, sb: Tensor, ta: Tensor, tb: Tensor, s_scale: Any, t_scale: Any, t: KLTerms
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The loss, and for rows and columns what backward needs: maxima and shares of both softmaxes."""
    row, col = kl_stats(
        sa,
        sb if t.packed_student is None else t.packed_student,
        ta,
        tb if t.packed_teacher is None else t.packed_teacher,
        s_scale,
        t_scale,
        rows=t.row_weight is not None,
        cols=t.col_weight is not None,
        exclude_diagonal=t.exclude_diagonal,
        want_right=t.skip_wrong,
        precision=t.precision,
        backend=t.backend,
    )
    value = None
    for side, weight in ((row, t.row_weight), (col, t.col_weight)):
        if side is not None and weight is not None:
            part = _losses(side, t)
            part = (part.sum() if t.reduce else part).mul_(weight)
            value = part if value is None else value.add_(part)
    value = value.to(sa.dtype if sa.dtype == torch.float64 else torch.float32)
    return value, _kept(row, t.row_weight, t), _kept(col, t.col_weight, t)


def _kept(side: KLSide | None, weight: float | None, t: KLTerms) -> list[Tensor]:
    # s_max, s_share, t_max, t_share: a softmax is share·exp(s − max)
    if side is None or weight is None:
        return []
    parts, gone = [], _gone(side, t)
    for top, total in ((side.s_max, side.s_sum), (side.t_max, side.t_sum)):
        share = weight / total
        parts += [top, share if gone is None else share.masked_fill_(gone, 0)]
    return parts


def gradients(
    g: Tensor,
    sa: Tensor,
    sb: Tensor,
    ta: Tensor,
    tb: Tensor,
    s_scale: Any,
    t_scale: Any,
    row: list[Tensor],
    col: list[Tensor],
    t: KLTerms,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Gradients for the student's sides in their dtypes and for its scale (float64)."""
    da, db, dscale = kl_grads(
        sa,
        sb if t.packed_student is None else t.packed_student,
        ta,
        tb if t.packed_teacher is None else t.packed_teacher,
        s_scale,
        t_scale,
        _pull(row, g) if row else None,
        _pull(col, g) if col else None,
        exclude_diagonal=t.exclude_diagonal,
        need_a=need_a,
        need_b=need_b,
        precision=t.precision,
        backend=t.backend,
    )
    return None if da is None else da.to(sa.dtype), None if db is None else db.to(sb.dtype), dscale


def _pull(kept: list[Tensor], g: Tensor) -> KLPull:
    s_max, s_share, t_max, t_share = kept
    g = number(g) if g.ndim == 0 else g.double()
    return KLPull(s_max, (s_share * g).to(s_max.dtype), t_max, (t_share * g).to(t_max.dtype))


def distill(sa: Tensor, sb: Tensor, ta: Tensor, tb: Tensor, s_scale: Any, t_scale: Any, terms: KLTerms) -> Tensor:
    """The loss with its gradients for the student's sides and scale."""
    if torch.compiler.is_compiling():
        from ._kl_op import distill_registered

        return distill_registered(sa, sb, ta, tb, as_scalar_tensor(s_scale, sa), as_scalar_tensor(t_scale, sa), terms)
    learned = isinstance(s_scale, Tensor) and s_scale.requires_grad
    if not torch.is_grad_enabled() or not (sa.requires_grad or sb.requires_grad or learned):
        return loss_with_sums(sa, sb, ta, tb, number(s_scale), number(t_scale), terms)[0]
    return _Distill.apply(sa, sb, s_scale, ta, tb, t_scale, terms)


class _Distill(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sa: Tensor, sb: Tensor, s_scale: Any, ta: Tensor, tb: Tensor, t_scale: Any, terms: KLTerms
    ) -> Tensor:
        ctx.terms, ctx.scales = terms, (number(s_scale), number(t_scale))
        ctx.like = s_scale if isinstance(s_scale, Tensor) else None
        value, row, col = loss_with_sums(sa, sb, ta, tb, ctx.scales[0], ctx.scales[1], terms)
        ctx.rows, ctx.kept, ctx.teacher = len(row), len(row) + len(col), (ta, tb)
        # The teacher is saved to notice changes of it; rows of inference mode have no version and cannot be saved.
        ctx.save_for_backward(sa, sb, *row, *col, *(x for x in (ta, tb) if not x.is_inference()))
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        sa, sb, *kept = ctx.saved_tensors
        ta, tb = ctx.teacher
        need = ctx.needs_input_grad
        with torch.no_grad():
            row, col = kept[: ctx.rows], kept[ctx.rows : ctx.kept]
            s_scale, t_scale = ctx.scales
            da, db, slope = gradients(g, sa, sb, ta, tb, s_scale, t_scale, row, col, ctx.terms, need[0], need[1])
            dscale = slope.to(ctx.like).reshape(ctx.like.shape) if need[2] else None
        return (*once("similarity_kl", (sa, sb, g), (da, db, dscale)), None, None, None, None)
