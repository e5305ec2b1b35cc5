"""Statistics of student and teacher similarities from one pass: two tiles at a time, both directions.

Of every row and column: reference and sum of the student's and of the teacher's softmax, and Σ_j 2**(t − m_t)·(t − s),
whose terms are small where the two agree; two separate sums would cancel.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._pairs import KLSide
from .kl_merge_triton import KLMerge, empty_kl_side, kl_side
from .merge_triton import exponent_of_scale, finite
from .tile_triton import (
    FAINT,
    Operand,
    Plan,
    crosses_diagonal,
    dot_precision,
    drop_pairs,
    on_device,
    operand,
    operand_dtype,
    plan_for,
    product,
    quarters,
    scalar,
    slice_width,
    tile_place,
)


@triton.jit
def column_parts(s, t, gap, es, et, ms, mt, s_top, t_top, live, RIGHT: tl.constexpr):
    # References and sums of some columns of a tile; s, t: exponents, es, et: 2**(· − m) around the rows' maxima.
    s_sum = tl.sum(es * tl.exp2(ms - finite(s_top))[:, None], 0)
    near = et * tl.exp2(mt - finite(t_top))[:, None]
    t_sum, cross = tl.sum(near, 0), tl.sum(near * gap, 0)
    s_reference, t_reference = tl.zeros_like(s_sum) + s_top, tl.zeros_like(t_sum) + t_top
    if tl.min(tl.where(live, s_sum, 1.0), 0) < FAINT:
        s_reference = tl.max(s, 0)
        s_sum = tl.sum(tl.exp2(s - finite(s_reference)[None, :]), 0)
    # Whether a teacher's best is the true pair needs the true maximum of the column.
    if RIGHT or tl.min(tl.where(live, t_sum, 1.0), 0) < FAINT:
        t_reference = tl.max(t, 0)
        near = tl.exp2(t - finite(t_reference)[None, :])
        t_sum, cross = tl.sum(near, 0), tl.sum(near * gap, 0)
    return s_reference, s_sum, t_reference, t_sum, cross


@triton.jit
def store_parts(part_ptr, plane, live, s_reference, s_sum, t_reference, t_sum, cross):
    tl.store(part_ptr, s_reference, mask=live)
    tl.store(part_ptr + plane, s_sum, mask=live)
    tl.store(part_ptr + 2 * plane, t_reference, mask=live)
    tl.store(part_ptr + 3 * plane, t_sum, mask=live)
    tl.store(part_ptr + 4 * plane, cross, mask=live)


@triton.jit
def store_diagonal(t, diagonal_ptr, row, column, end, M, shift, BLOCK: tl.constexpr):
    # t_ii, where this tile has it.
    if crosses_diagonal(row, column, shift, BLOCK, BLOCK):
        rows, columns = row + tl.arange(0, BLOCK), column + tl.arange(0, BLOCK)
        own = (rows[:, None] + shift == columns[None, :]) & (rows < end)[:, None] & (columns < M)[None, :]
        here = tl.max(own.to(tl.int32), 1) > 0
        tl.store(diagonal_ptr + rows, tl.sum(tl.where(own, t, 0.0), 1), mask=here)


@triton.jit(
    do_not_specialize=["N", "M", "first", "end", "shift"],
    do_not_specialize_on_alignment=["s_scale_ptr", "t_scale_ptr"],
)
def kl_stats_kernel(
    sa_ptr,  # student [N, SP]
    sb_ptr,  # [M, SP]
    ta_ptr,  # teacher [N, TP]
    tb_ptr,  # [M, TP]
    s_scale_ptr,  # [1]
    t_scale_ptr,  # [1]
    row_ptr,  # [5, column blocks, end − first]: s reference, s sum, t reference, t sum, cross
    column_ptr,  # [5, row blocks, M]
    diagonal_ptr,  # [N] exponents t_ii
    N,
    M,
    first,  # rows of this launch: first ≤ i < end
    end,
    shift,  # i + shift = j is the diagonal
    SP: tl.constexpr,
    TP: tl.constexpr,
    BLOCK: tl.constexpr,
    S_BLOCK_D: tl.constexpr,
    T_BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUDE: tl.constexpr,
    RIGHT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row_blocks, column_blocks = tl.cdiv(end - first, BLOCK), tl.cdiv(M, BLOCK)
    row_block, column_block = tile_place(row_blocks, column_blocks, GROUP)
    row, column = first + row_block * BLOCK, column_block * BLOCK
    rows, columns = row + tl.arange(0, BLOCK), column + tl.arange(0, BLOCK)
    t = product(ta_ptr, tb_ptr, rows, columns, N, M, TP, BLOCK, T_BLOCK_D, PRECISION)
    s = product(sa_ptr, sb_ptr, rows, columns, N, M, SP, BLOCK, S_BLOCK_D, PRECISION)
    t = t * (exponent_of_scale(t_scale_ptr) * tl.where(tl.load(t_scale_ptr) < 0, -1.0, 1.0))
    s = s * (exponent_of_scale(s_scale_ptr) * tl.where(tl.load(s_scale_ptr) < 0, -1.0, 1.0))
    if RIGHT:
        store_diagonal(t, diagonal_ptr, row, column, end, M, shift, BLOCK)
    t = drop_pairs(t, row, column, end, M, shift, EXCLUDE, BLOCK)
    s = drop_pairs(s, row, column, end, M, shift, EXCLUDE, BLOCK)
    mt, ms = tl.max(t, 1), tl.max(s, 1)
    t_top, s_top = tl.max(mt, 0), tl.max(ms, 0)

    QUARTER: tl.constexpr = BLOCK // 4
    piece = column_block * BLOCK + tl.arange(0, QUARTER)
    s_sum, t_sum, cross = tl.zeros_like(ms), tl.zeros_like(ms), tl.zeros_like(ms)
    column_part = column_ptr + row_block.to(tl.int64) * M
    plane = row_blocks.to(tl.int64) * M
    s0, s1, s2, s3 = quarters(s, BLOCK)
    t0, t1, t2, t3 = quarters(t, BLOCK)
    for part in tl.static_range(4):
        sp = s0 if part == 0 else s1 if part == 1 else s2 if part == 2 else s3
        tp = t0 if part == 0 else t1 if part == 1 else t2 if part == 2 else t3
        at = piece + part * QUARTER
        es, et = tl.exp2(sp - finite(ms)[:, None]), tl.exp2(tp - finite(mt)[:, None])
        gap = tl.where(tp == float("-inf"), 0.0, tp - sp)
        s_sum += tl.sum(es, 1)
        t_sum += tl.sum(et, 1)
        cross += tl.sum(et * gap, 1)
        if COLUMNS:
            live = at < M
            # fmt: off
            rs, ss, rt, st, x = column_parts(sp, tp, gap, es, et, ms, mt, s_top, t_top, live, RIGHT)
            # fmt: on
            store_parts(column_part + at, plane, live, rs, ss, rt, st, x)
    row_part = row_ptr + column_block.to(tl.int64) * (end - first) - first + rows
    store_parts(row_part, column_blocks.to(tl.int64) * (end - first), rows < end, ms, s_sum, mt, t_sum, cross)


def _launch(
    sides: tuple[Operand, Operand, Operand, Operand],
    scales: tuple[Tensor, Tensor],
    diagonal: Tensor,
    span: tuple[int, int],
    shift: int,
    plan: Plan,
    **flags: Any,
) -> tuple[Tensor, Tensor]:
    (first, end), (sa, sb, ta, _), device = span, sides, diagonal.device
    M = len(sb)
    row_blocks, column_blocks = triton.cdiv(end - first, plan.block), triton.cdiv(M, plan.block)
    rows = torch.empty(5, column_blocks, end - first, dtype=torch.float32, device=device)
    columns = torch.empty(5, row_blocks if flags["COLUMNS"] else 0, M, dtype=torch.float32, device=device)
    with on_device(device):
        kl_stats_kernel[(row_blocks * column_blocks,)](
            *(side.rows for side in sides),
            *scales,
            rows,
            columns,
            diagonal,
            len(sa),
            M,
            first,
            end,
            shift,
            SP=sa.padded,
            TP=ta.padded,
            BLOCK=plan.block,
            S_BLOCK_D=slice_width(sa.D, plan),
            T_BLOCK_D=slice_width(ta.D, plan),
            GROUP=plan.group,
            **flags,
            num_warps=plan.pair_warps,
            num_stages=plan.stages,
        )
    return rows, columns


def kl_stats(
    sa: Tensor,
    sb: Tensor,
    ta: Tensor,
    tb: Tensor,
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
    plan: Plan | None = None,
) -> tuple[KLSide | None, KLSide | None]:
    """See `_pairs.kl_stats`."""
    N, M, device = sa.shape[0], sb.shape[0], sa.device
    if not (rows or cols) or N == 0 or M == 0:
        return empty_kl_side(N, device) if rows else None, empty_kl_side(M, device) if cols else None
    shared: dict[str, Any] = {
        "exclude_diagonal": exclude_diagonal,
        "want_right": want_right,
        "precision": precision,
        "plan": plan,
    }
    if not rows:
        # The kernel always reduces rows: the columns alone are the rows of the transposed problem.
        shared |= {"row_offset": col_offset, "col_offset": row_offset}
        return None, kl_stats(sb, sa, tb, ta, s_scale, t_scale, cols=False, **shared)[0]
    dtype = operand_dtype(precision, sa, sb, ta, tb)
    plan = plan or plan_for(dtype)
    sides = (operand(sa, dtype, plan), operand(sb, dtype, plan), operand(ta, dtype, plan), operand(tb, dtype, plan))
    shift = row_offset - col_offset
    diagonal = torch.full((N,), -torch.inf, dtype=torch.float32, device=device)
    row: list[KLMerge] = []
    column = KLMerge(M, device) if cols else None
    step = plan.strip_rows(N, 20 * M * (1 + cols) // plan.block, plan.partial_bytes)
    for first in range(0, N, step):
        end = min(first + step, N)
        row_part, column_part = _launch(
            sides,
            (scalar(s_scale, device), scalar(t_scale, device)),
            diagonal,
            (first, end),
            shift,
            plan,
            COLUMNS=cols,
            EXCLUDE=exclude_diagonal,
            RIGHT=want_right,
            PRECISION=dot_precision(precision, dtype),
        )
        row.append(KLMerge(end - first, device).add(row_part, known=False, done=True))
        if column is not None:
            column.add(column_part, known=first > 0, done=end == N)
    own = torch.full((M,), -torch.inf, dtype=torch.float32, device=device)
    begin, stop = max(0, -shift), min(N, M - shift)
    if begin < stop:
        own[begin + shift : stop + shift] = diagonal[begin:stop]
    return kl_side(row, diagonal), None if column is None else kl_side([column], own)
