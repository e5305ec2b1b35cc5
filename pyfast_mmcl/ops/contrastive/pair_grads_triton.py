"""Gradients of the pair losses: tiles are formed again and pulled by the softmaxes of their rows and columns.

Small D: a program owns rows, walks over the other side and adds up their gradient in registers (`pair_fused_triton`).
Large D: a bounded strip of dS is stored in the type of the rows, and multiplied by both sides (`strip_triton`).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._pairs import Pull
from .pair_fused_triton import fused_gradients
from .pull_triton import VECTORS, factors, gain, near_references, pair_pull, reference, store_scaled
from .strip_triton import Gradients
from .tile_triton import (
    Operand,
    Plan,
    dot_precision,
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


@triton.jit(
    do_not_specialize=["N", "M", "first", "end", "left", "shift", "stride"],
    do_not_specialize_on_alignment=VECTORS,
)
def pair_strip_kernel(
    a_ptr,  # [N, DP]
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
    strip_ptr,  # whole tiles of dS·factor
    dscale_ptr,  # [tiles] float64
    N,
    M,
    first,  # rows of this strip: first ≤ i < end
    end,
    left,  # columns from here on
    shift,
    stride,  # of the strip, in blocks of 16
    DP: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUDE: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    STORE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row_blocks, column_blocks = tl.cdiv(end - first, BLOCK), tl.cdiv(M - left, BLOCK)
    row_block, column_block = tile_place(row_blocks, column_blocks, GROUP)
    mirrored = False
    if SYMMETRIC:
        if column_block < row_block:
            # Written by the program of the mirrored tile.
            tl.store(dscale_ptr + tl.program_id(0), 0.0)
            return
        mirrored = (column_block > row_block) & (column_block < row_blocks)
    row, column = first + row_block * BLOCK, left + column_block * BLOCK
    rows, columns = row + tl.arange(0, BLOCK), column + tl.arange(0, BLOCK)
    x = product(a_ptr, b_ptr, rows, columns, N, M, DP, BLOCK, BLOCK_D, PRECISION)

    exponent, factor = factors(scale_ptr, gain_ptr)
    m, r = reference(row_max_ptr, row_coef_ptr, rows, end, factor, ROWS)
    positive = tl.load(row_pos_ptr + rows, mask=(rows < end) & ROWS, other=0.0) * factor
    row_id = tl.load(row_id_ptr + tl.minimum(rows, end - 1))
    meet = ids_meet(row_id, tl.load(column_id_ptr + tl.minimum(columns, M - 1)))
    top, close = near_references(m, column_max_ptr, columns, M, ROWS and COLUMNS)
    QUARTER: tl.constexpr = BLOCK // 4
    # Places in the strip are whole blocks from its corner, known to be aligned: stores of 16 bytes.
    across = column_block * BLOCK + tl.arange(0, QUARTER)
    down = (row_block * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    slope = tl.zeros([BLOCK], tl.float32)
    pitch = stride.to(tl.int64) * 16
    x0, x1, x2, x3 = quarters(x, BLOCK)
    for part in tl.static_range(4):
        near = x0 if part == 0 else x1 if part == 1 else x2 if part == 2 else x3
        place = across + part * QUARTER
        # fmt: off
        g = pair_pull(near, exponent, m, r, positive, top, close, row_id, meet, row, end, column_max_ptr,
                      column_coef_ptr, column_pos_ptr, column_id_ptr, column + part * QUARTER, M, shift, factor,
                      ROWS, COLUMNS, EXCLUDE, BLOCK, QUARTER)
        # fmt: on
        slope += tl.sum(g * near, 1)
        if STORE:
            store_scaled(strip_ptr + down[:, None] * pitch + place[None, :], g, scale_ptr)
            if SYMMETRIC:
                if mirrored:
                    store_scaled(strip_ptr + place.to(tl.int64)[None, :] * pitch + down[:, None], g, scale_ptr)
    share = tl.sum(slope.to(tl.float64), 0)
    if SYMMETRIC:
        # Off the diagonal a tile stands for its mirror too; on it every pair meets both its rows' pulls.
        share = share * tl.where(column_block == row_block, 0.5, 1.0)
    tl.store(dscale_ptr + tl.program_id(0), share / factor)


def _strips(
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
    grads = Gradients(a, b, *needs, plan, precision)
    strip, step = grads.buffer() if any(needs) else (a.rows, plan.block * triton.cdiv(len(a), plan.block))
    row, col = pulls[0] or pulls[1], pulls[1] or pulls[0]
    sums = []
    for first in range(0, len(a), step):
        end, left = min(first + step, len(a)), first if symmetric else 0
        tiles = triton.cdiv(end - first, plan.block) * triton.cdiv(len(b) - left, plan.block)
        sums.append(torch.empty(tiles, dtype=torch.float64, device=a.rows.device))
        with on_device(a.rows.device):
            pair_strip_kernel[(tiles,)](
                a.rows,
                b.rows,
                *ids,
                *scalars,
                *(row.max, row.coef, row.pos),
                *(col.max, col.coef, col.pos),
                strip,
                sums[-1],
                len(a),
                len(b),
                first,
                end,
                left,
                shift,
                strip.stride(0) // 16,
                DP=a.padded,
                BLOCK=plan.block,
                BLOCK_D=slice_width(a.D, plan),
                GROUP=plan.group,
                ROWS=pulls[0] is not None,
                COLUMNS=pulls[1] is not None,
                EXCLUDE=exclude_self,
                SYMMETRIC=symmetric,
                STORE=any(needs),
                PRECISION=dot_precision(precision, a.rows.dtype),
                num_warps=plan.warps,
                num_stages=plan.stages,
            )
        if symmetric and needs[0]:
            grads.add_symmetric(strip, first, end)
        elif any(needs):
            grads.add(strip, first, end)
    return *grads.finish(scalars[1]), torch.cat(sums).sum()


def pair_grads(
    a: Tensor,
    b: Tensor,
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
    plan: Plan | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """See `_pairs.pair_grads`."""
    needs = (need_a, need_b and not symmetric)
    pulls = (row, row if symmetric else col)
    dtype = operand_dtype(precision, a, b)
    plan = plan or plan_for(dtype)
    if a.shape[0] == 0 or b.shape[0] == 0 or pulls == (None, None):
        empty = Gradients(operand(a, dtype, plan), operand(b, dtype, plan), *needs, plan, precision)
        return *empty.nothing(), torch.zeros((), dtype=torch.float64, device=a.device)
    factor = scalar(scale, a.device)
    bounds = [x for pull in (row, col) if pull is not None for x in (pull.coef, pull.pos)]
    scalars = (factor, gain(dtype, factor, *bounds, *(bounds if symmetric else ())))
    fused = a.shape[1] <= plan.fused_d and any(needs)
    left = operand(a, dtype, plan, one_slice=fused)
    right = left if symmetric else operand(b, dtype, plan, one_slice=fused)
    ids = (row_ids.contiguous(), col_ids.contiguous())
    run = fused_gradients if fused else _strips
    shift = row_offset - col_offset
    return run(left, right, ids, scalars, pulls, needs, plan, precision, shift, exclude_self, symmetric)
