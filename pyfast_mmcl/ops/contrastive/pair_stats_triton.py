"""Row and column statistics of s from one pass: every similarity tile is formed once and gives both.

A tile takes the exponentials of its entries around the maximum of their row. Its column sums reuse them, weighted by
the distance of each row's maximum from the tile's; columns that this leaves too faint are summed around their own.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._pairs import Side
from .merge_triton import Merge, empty_side, exponent_of_scale, finite
from .tile_triton import (
    FAINT,
    Operand,
    Plan,
    dot_precision,
    drop_pairs,
    ids_meet,
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
def piece_sums(x, exponent, m, weight, top, columns, limit, part_ptr, plane, COLUMNS: tl.constexpr):
    # Σ_j 2**(t − m) over some columns of a tile; stores the columns' reference and Σ_i 2**(t_ij − reference).
    # m: maxima of the rows, top: their maximum, weight: 2**(m − top), part_ptr: place of column 0.
    e = tl.exp2(tl.fma(x, exponent, -m[:, None]))
    if COLUMNS:
        live = columns < limit
        sums = tl.sum(e * weight[:, None], 0)
        reference = tl.zeros_like(sums) + top
        if tl.min(tl.where(live, sums, 1.0), 0) < FAINT:
            reference = tl.max(x, 0) * exponent
            sums = tl.sum(tl.exp2(tl.fma(x, exponent, -finite(reference)[None, :])), 0)
        tl.store(part_ptr + columns, reference, mask=live)
        tl.store(part_ptr + plane + columns, sums, mask=live)
    return tl.sum(e, 1)


@triton.jit
def positive_sums(x, row_id_ptr, column_id_ptr, rows, columns, end, M, shift, EXCLUDE: tl.constexpr):
    # Σ of x over the positive pairs of each row and column of the tile.
    row_id = tl.load(row_id_ptr + tl.minimum(rows, end - 1))
    column_id = tl.load(column_id_ptr + tl.minimum(columns, M - 1))
    along, across = tl.zeros_like(rows).to(tl.float32), tl.zeros_like(columns).to(tl.float32)
    if ids_meet(row_id, column_id):
        positive = (row_id[:, None] == column_id[None, :]) & (rows < end)[:, None] & (columns < M)[None, :]
        if EXCLUDE:
            positive = positive & (rows[:, None] + shift != columns[None, :])
        picked = tl.where(positive, x, 0.0)
        along, across = tl.sum(picked, 1), tl.sum(picked, 0)
    return along, across


@triton.jit
def store_nothing(part_ptr, plane, live):
    tl.store(part_ptr, float("-inf"), mask=live)
    tl.store(part_ptr + plane, 0.0, mask=live)
    tl.store(part_ptr + 2 * plane, 0.0, mask=live)


@triton.jit(
    do_not_specialize=["N", "M", "first", "end", "left", "shift"],
    do_not_specialize_on_alignment=["row_id_ptr", "column_id_ptr", "scale_ptr"],
)
def pair_stats_kernel(
    a_ptr,  # [N, DP]
    b_ptr,  # [M, DP]
    row_id_ptr,  # [N] int64
    column_id_ptr,  # [M] int64
    scale_ptr,  # [1]
    row_ptr,  # [3, column blocks, end − first] partial statistics of the rows: m, Σ 2**(t − m), Σ of positive x
    column_ptr,  # [3, row blocks, M − left] of the columns
    N,
    M,
    first,  # rows of this launch: first ≤ i < end
    end,
    left,  # columns from here on
    shift,  # a pair with i + shift = j is excluded
    DP: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUDE: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row_blocks, column_blocks = tl.cdiv(end - first, BLOCK), tl.cdiv(M - left, BLOCK)
    row_block, column_block = tile_place(row_blocks, column_blocks, GROUP)
    row, column = first + row_block * BLOCK, left + column_block * BLOCK
    rows, columns = row + tl.arange(0, BLOCK), column + tl.arange(0, BLOCK)
    # Statistics lie by kind, by block of the other side, by row or column.
    row_part = row_ptr + column_block.to(tl.int64) * (end - first) - first
    column_part = column_ptr + row_block.to(tl.int64) * (M - left) - left
    row_plane = column_blocks.to(tl.int64) * (end - first)
    column_plane = row_blocks.to(tl.int64) * (M - left)
    limit = M
    if SYMMETRIC:
        if column_block <= row_block:
            # The columns of a diagonal tile are its rows; what lies below the diagonal is the mirror of a tile above.
            store_nothing(column_part + columns, column_plane, columns < M)
            limit = left
        if column_block < row_block:
            store_nothing(row_part + rows, row_plane, rows < end)
            return

    x = product(a_ptr, b_ptr, rows, columns, N, M, DP, BLOCK, BLOCK_D, PRECISION)
    if tl.load(scale_ptr) < 0:
        x = -x
    x = drop_pairs(x, row, column, end, M, shift, EXCLUDE, BLOCK)
    along, across = positive_sums(x, row_id_ptr, column_id_ptr, rows, columns, end, M, shift, EXCLUDE)
    exponent = exponent_of_scale(scale_ptr)
    m = tl.max(x, 1) * exponent
    top = tl.max(m, 0)
    weight = tl.exp2(m - finite(top))
    near = finite(m)
    QUARTER: tl.constexpr = BLOCK // 4
    piece = column + tl.arange(0, QUARTER)
    # fmt: off
    x0, x1, x2, x3 = quarters(x, BLOCK)
    e = piece_sums(x0, exponent, near, weight, top, piece, limit, column_part, column_plane, COLUMNS)
    e += piece_sums(x1, exponent, near, weight, top, piece + QUARTER, limit, column_part, column_plane, COLUMNS)
    e += piece_sums(x2, exponent, near, weight, top, piece + 2 * QUARTER, limit, column_part, column_plane, COLUMNS)
    e += piece_sums(x3, exponent, near, weight, top, piece + 3 * QUARTER, limit, column_part, column_plane, COLUMNS)
    # fmt: on
    tl.store(row_part + rows, m, mask=rows < end)
    tl.store(row_part + row_plane + rows, e, mask=rows < end)
    tl.store(row_part + 2 * row_plane + rows, along, mask=rows < end)
    if COLUMNS:
        tl.store(column_part + 2 * column_plane + columns, across, mask=columns < limit)


def _launch(
    a: Operand,
    b: Operand,
    ids: tuple[Tensor, Tensor],
    scale: Tensor,
    span: tuple[int, int, int],
    shift: int,
    plan: Plan,
    **flags: Any,
) -> tuple[Tensor, Tensor]:
    first, end, left = span
    M, device = len(b), scale.device
    row_blocks, column_blocks = triton.cdiv(end - first, plan.block), triton.cdiv(M - left, plan.block)
    rows = torch.empty(3, column_blocks, end - first, dtype=torch.float32, device=device)
    columns = torch.empty(3, row_blocks if flags["COLUMNS"] else 0, M - left, dtype=torch.float32, device=device)
    with on_device(device):
        pair_stats_kernel[(row_blocks * column_blocks,)](
            a.rows,
            b.rows,
            *ids,
            scale,
            rows,
            columns,
            len(a),
            M,
            first,
            end,
            left,
            shift,
            DP=a.padded,
            BLOCK=plan.block,
            BLOCK_D=slice_width(a.D, plan),
            GROUP=plan.group,
            **flags,
            num_warps=plan.warps,
            num_stages=plan.stages,
        )
    return rows, columns


def pair_stats(
    a: Tensor,
    b: Tensor,
    scale: Any,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    rows: bool = True,
    cols: bool = True,
    exclude_self: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    symmetric: bool = False,
    precision: str = "auto",
    plan: Plan | None = None,
) -> tuple[Side | None, Side | None]:
    """See `_pairs.pair_stats`."""
    N, M = a.shape[0], b.shape[0]
    if symmetric:
        rows, cols = True, False
    if not (rows or cols) or N == 0 or M == 0:
        return empty_side(N, a.device) if rows else None, empty_side(M, a.device) if cols else None
    if not rows:
        # The kernel always reduces rows: the columns alone are the rows of the transposed problem.
        swapped: dict[str, Any] = {"row_ids": col_ids, "col_ids": row_ids}
        swapped |= {"row_offset": col_offset, "col_offset": row_offset}
        same: dict[str, Any] = {"exclude_self": exclude_self, "precision": precision, "plan": plan}
        return None, pair_stats(b, a, scale, cols=False, **swapped, **same)[0]
    dtype = operand_dtype(precision, a, b)
    plan = plan or plan_for(dtype)
    factor = scalar(scale, a.device)
    left_side = operand(a, dtype, plan)
    right_side = left_side if symmetric else operand(b, dtype, plan)
    row, column = Merge(N, factor), Merge(M, factor) if cols else None
    both = cols or symmetric
    step = plan.strip_rows(N, 12 * M * (1 + both) // plan.block, plan.partial_bytes)
    for first in range(0, N, step):
        end = min(first + step, N)
        row_part, column_part = _launch(
            left_side,
            right_side,
            (row_ids.contiguous(), col_ids.contiguous()),
            factor,
            (first, end, first if symmetric else 0),
            row_offset - col_offset,
            plan,
            COLUMNS=both,
            EXCLUDE=exclude_self,
            SYMMETRIC=symmetric,
            PRECISION=dot_precision(precision, dtype),
        )
        row.add(row_part, first, 0 if symmetric else end - first)
        if symmetric:
            row.add(column_part, first, end - first)
        elif column is not None:
            column.add(column_part, 0, M if end == N else 0)
    return row.side(), None if column is None else column.side()
