"""What a backend computes: sums over all pairs (i, j) of two sides, tile by tile, and the choice of the backend.

s_ij = scale·⟨a_i, b_j⟩ (+ bias). A pair is excluded where ``exclude_self`` and row_offset + i = col_offset + j, and
positive where row_ids[i] = col_ids[j] and it is not excluded. ``scale`` is a float, or a 0-d tensor that a backend on
another device may read there without waiting. ``precision`` is the caller's word: "auto" (bfloat16 tiles for bfloat16
rows, else float32), "float32" or "bfloat16"; sums are float32 or better in every case. float64 rows are float64
throughout. Gradients contain the factor ``scale`` and are float32 (float64 for float64 rows). The second side may be a
`PackedReference` where it needs no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _dispatch


@dataclass
class Side:
    """Log-sum-exp of one side, in parts: rows (length N) or columns (length M)."""

    max: Tensor  # float32; no s of the row lies more than some 40 above; −inf only where nothing is in the row
    sum: Tensor  # float64: Σ_j exp(s_ij − max_i) over pairs that are not excluded
    pos: Tensor  # float64: Σ_{j positive} s_ij, of the same s as in `sum`


@dataclass
class Pull:
    """One side's part of dS_ij: coef_i·exp(s_ij − max_i), less pos_i where the pair is positive."""

    max: Tensor  # float32, from Side
    coef: Tensor  # float32: upstream·weight / sum
    pos: Tensor  # float32: upstream·weight / |P(i)|


@dataclass
class KLSide:
    """Sums of one side for KL(softmax(t) ‖ softmax(s))."""

    s_max: Tensor  # float32
    t_max: Tensor  # float32
    s_sum: Tensor  # float64: Σ_j exp(s_ij − s_max_i)
    t_sum: Tensor  # float64: Σ_j exp(t_ij − t_max_i)
    cross: Tensor  # float64: Σ_j exp(t_ij − t_max_i)·(t_ij − s_ij)
    t_right: Tensor  # bool: no t_ij > t_ii; meaningful where it was asked for


class KLPull(NamedTuple):
    """One side's part of dS_ij: s_coef_i·exp(s_ij − s_max_i) − t_coef_i·exp(t_ij − t_max_i)."""

    s_max: Tensor
    s_coef: Tensor  # float32
    t_max: Tensor
    t_coef: Tensor  # float32


def pair_stats(
    a: Tensor,  # [N, D]
    b: Any,  # [M, D]
    scale: Any,
    *,
    row_ids: Tensor,  # int64 [N]
    col_ids: Tensor,  # int64 [M]
    rows: bool = True,
    cols: bool = True,
    exclude_self: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    symmetric: bool = False,
    precision: str = "auto",
    backend: str = "auto",
) -> tuple[Side | None, Side | None]:
    """Row and column statistics of s from one pass; ``symmetric`` (b is a): tiles I ≤ J only, the row side returned."""
    module, (a, b) = _dispatch.opened("pair_stats", backend, precision, a, b)
    return module.pair_stats(
        a,
        b,
        scale,
        row_ids=row_ids,
        col_ids=col_ids,
        rows=rows,
        cols=cols,
        exclude_self=exclude_self,
        row_offset=row_offset,
        col_offset=col_offset,
        symmetric=symmetric,
        precision=precision,
    )


def pair_grads(
    a: Tensor,  # [N, D]
    b: Any,  # [M, D]
    scale: Any,
    row: Pull | None,
    col: Pull | None,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    need_a: bool = True,
    need_b: bool = True,
    exclude_self: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    symmetric: bool = False,
    precision: str = "auto",
    backend: str = "auto",
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """da [N, D], db [M, D] and dscale (float64, 0-d) of Σ dS_ij·s_ij with dS = row pull + column pull.

    ``symmetric``: row pull only, G_ij = pull_i + pull_j; returns (dz, None, dscale).
    """
    module, (a, b) = _dispatch.opened("pair_grads", backend, precision, a, b)
    return module.pair_grads(
        a,
        b,
        scale,
        row,
        col,
        row_ids=row_ids,
        col_ids=col_ids,
        need_a=need_a,
        need_b=need_b,
        exclude_self=exclude_self,
        row_offset=row_offset,
        col_offset=col_offset,
        symmetric=symmetric,
        precision=precision,
    )


def siglip_pass(
    a: Tensor,  # [N, D]
    b: Any,  # [M, D]
    scale: Any,
    bias: Any,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    need_a: bool = True,
    need_b: bool = True,
    precision: str = "auto",
    backend: str = "auto",
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """(loss, da, db, dscale, dbias) of Σ_ij softplus(−y_ij s_ij); y = +1 on positives, else −1; sums float64."""
    module, (a, b) = _dispatch.opened("siglip", backend, precision, a, b)
    return module.siglip_pass(
        a,
        b,
        scale,
        bias,
        row_ids=row_ids,
        col_ids=col_ids,
        need_a=need_a,
        need_b=need_b,
        precision=precision,
    )


def kl_stats(
    sa: Tensor,  # student [N, D]
    sb: Any,  # student [M, D]
    ta: Tensor,  # teacher [N, D′]
    tb: Any,  # teacher [M, D′]
    s_scale: Any,
    t_scale: Any,
    *,
    rows: bool = True,
    cols: bool = True,
    exclude_diagonal: bool = False,
    want_right: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    precision: str = "auto",
    backend: str = "auto",
) -> tuple[KLSide | None, KLSide | None]:
    """Sums of teacher and student similarities in one pass over both."""
    module, (sa, sb, ta, tb) = _dispatch.opened("similarity_kl", backend, precision, sa, sb, ta, tb)
    return module.kl_stats(
        sa,
        sb,
        ta,
        tb,
        s_scale,
        t_scale,
        rows=rows,
        cols=cols,
        exclude_diagonal=exclude_diagonal,
        want_right=want_right,
        row_offset=row_offset,
        col_offset=col_offset,
        precision=precision,
    )


def kl_grads(
    sa: Tensor,
    sb: Any,
    ta: Tensor,
    tb: Any,
    s_scale: Any,
    t_scale: Any,
    row: KLPull | None,
    col: KLPull | None,
    *,
    exclude_diagonal: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    need_a: bool = True,
    need_b: bool = True,
    precision: str = "auto",
    backend: str = "auto",
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Gradients of the student's sides and of s_scale (float64, 0-d) of Σ dS_ij·s_ij."""
    module, (sa, sb, ta, tb) = _dispatch.opened("similarity_kl", backend, precision, sa, sb, ta, tb)
    return module.kl_grads(
        sa,
        sb,
        ta,
        tb,
        s_scale,
        t_scale,
        row,
        col,
        exclude_diagonal=exclude_diagonal,
        row_offset=row_offset,
        col_offset=col_offset,
        need_a=need_a,
        need_b=need_b,
        precision=precision,
    )


def merge(left: Side, right: Side) -> Side:
    """Statistics of the union of two sets of columns for the same rows."""
    top = torch.maximum(left.max, right.max)
    reference = top.masked_fill(top == -torch.inf, 0).double()
    total = left.sum * (left.max - reference).exp() + right.sum * (right.max - reference).exp()
    return Side(top, total, left.pos + right.pos)
