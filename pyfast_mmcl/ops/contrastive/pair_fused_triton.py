"""Gradients of the pair losses for rows so short that their sums stay in registers: dS is never stored.

A program owns rows, walks over tiles of the other side and adds up ``dS b``. The other side's gradient is the same
kernel with the sides exchanged.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._pairs import Pull
from .pull_triton import VECTORS, factors, near_references, pair_pull, reference
from .tile_triton import Operand, Plan, dot_precision, ids_meet, on_device


@triton.jit(do_not_specialize=["N", "M", "D", "shift", "tiles_each"], do_not_specialize_on_alignment=VECTORS)
def pair_fused_kernel(
    a_ptr,  # [N, DP] the rows whose gradient this is
    b_ptr,  # [M, DP]
    row_id_ptr,  # [N] int64
    column_id_ptr,  # [M] int64
    scale_ptr,  # [1]
    gain_ptr,  # [1]
    row_max_ptr,  # [N] float32
    row_coef_ptr,
    row_pos_ptr,
    column_max_ptr,  # [M] float32
    column_coef_ptr,
    column_pos_ptr,
    out_ptr,  # [splits, N, D] float32
    dscale_ptr,  # [programs] float64
    N,
    M,
    D,
    shift,
    tiles_each,
    DP: tl.constexpr,
    BLOCK: tl.constexpr,
    OTHER: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK
    rows = row + tl.arange(0, BLOCK)
    lanes = tl.arange(0, DP)
    a = tl.load(a_ptr + tl.minimum(rows, N - 1).to(tl.int64)[:, None] * DP + lanes[None, :])
    exponent, factor = factors(scale_ptr, gain_ptr)
    m, r = reference(row_max_ptr, row_coef_ptr, rows, N, factor, ROWS)
    positive = tl.load(row_pos_ptr + rows, mask=(rows < N) & ROWS, other=0.0) * factor
    row_id = tl.load(row_id_ptr + tl.minimum(rows, N - 1))
    acc = tl.zeros([BLOCK, DP], tl.float32)
    slope = tl.zeros([BLOCK], tl.float32).to(tl.float64)
    first = tl.program_id(1) * tiles_each
    last = tl.minimum(first + tiles_each, tl.cdiv(M, OTHER))
    for tile in range(first, last):
        columns = tile * OTHER + tl.arange(0, OTHER)
        b = tl.load(b_ptr + tl.minimum(columns, M - 1).to(tl.int64)[:, None] * DP + lanes[None, :])
        x = tl.dot(a, tl.trans(b), input_precision=PRECISION)
        meet = ids_meet(row_id, tl.load(column_id_ptr + tl.minimum(columns, M - 1)))
        top, close = near_references(m, column_max_ptr, columns, M, ROWS and COLUMNS)
        # fmt: off
        g = pair_pull(x, exponent, m, r, positive, top, close, row_id, meet, row, N, column_max_ptr,
                      column_coef_ptr, column_pos_ptr, column_id_ptr, tile * OTHER, M, shift, factor,
                      ROWS, COLUMNS, EXCLUDE, BLOCK, OTHER)
        # fmt: on
        slope += tl.sum(g * x, 1).to(tl.float64)
        acc = tl.dot(g.to(b.dtype), b, acc, input_precision=PRECISION)
    if tl.load(scale_ptr) == 0.0:
        acc = tl.zeros_like(acc)
    acc = acc * (1.0 / tl.load(gain_ptr))
    out = out_ptr + (tl.program_id(1).to(tl.int64) * N + rows)[:, None] * D + lanes[None, :]
    tl.store(out, acc, mask=(rows < N)[:, None] & (lanes < D)[None, :])
    tl.store(dscale_ptr + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), tl.sum(slope, 0) / factor)


def _one_side(
    a: Operand,
    b: Operand,
    ids: tuple[Tensor, Tensor],
    scalars: tuple[Tensor, Tensor],
    pulls: tuple[Pull | None, Pull | None],
    plan: Plan,
    precision: str,
    shift: int,
    exclude_self: bool,
) -> tuple[Tensor, Tensor]:
    # Gradient [N, D] of the rows of ``a``, and dscale.
    N, M, device = len(a), len(b), a.rows.device
    blocks, tiles = triton.cdiv(N, plan.block), triton.cdiv(M, plan.fused_block)
    tiles_each = triton.cdiv(tiles, max(1, min(tiles, plan.programs // blocks)))
    splits = triton.cdiv(tiles, tiles_each)
    out = torch.empty(splits, N, a.D, dtype=torch.float32, device=device)
    slope = torch.empty(blocks * splits, dtype=torch.float64, device=device)
    row, col = pulls[0] or pulls[1], pulls[1] or pulls[0]
    with on_device(device):
        pair_fused_kernel[(blocks, splits)](
            a.rows,
            b.rows,
            *ids,
            *scalars,
            *(row.max, row.coef, row.pos),
            *(col.max, col.coef, col.pos),
            out,
            slope,
            N,
            M,
            a.D,
            shift,
            tiles_each,
            DP=a.padded,
            BLOCK=plan.block,
            OTHER=plan.fused_block,
            ROWS=pulls[0] is not None,
            COLUMNS=pulls[1] is not None,
            EXCLUDE=exclude_self,
            PRECISION=dot_precision(precision, a.rows.dtype),
            num_warps=plan.fused_warps,
            num_stages=2,
        )
    return (out[0] if splits == 1 else out.sum(0)), slope.sum()


def fused_gradients(
    a: Operand,
    b: Operand,
    ids: tuple[Tensor, Tensor],
    scalars: tuple[Tensor, Tensor],
    pulls: tuple[Pull | None, Pull | None],
    needs: tuple[bool, bool],
    plan: Plan,
    precision: str,
    shift: int,
    exclude_self: bool,
    symmetric: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """da, db and dscale; a symmetric dS is walked over whole: half of it would need sums of two owners."""
    da = db = dscale = None
    if needs[0]:
        da, dscale = _one_side(a, b, ids, scalars, pulls, plan, precision, shift, exclude_self)
    if needs[1]:
        db, other = _one_side(b, a, ids[::-1], scalars, pulls[::-1], plan, precision, -shift, exclude_self)
        dscale = other if dscale is None else dscale
    assert dscale is not None
    return da, db, dscale * 0.5 if symmetric else dscale
