"""Gradients of the similarity distillation for the student: strips of dS = softmax(s) − softmax(t), both directions."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._pairs import KLPull
from .pull_triton import drop_missing, factors, gain, near_references, reference, softmax_pull, store_scaled
from .strip_triton import Gradients
from .tile_triton import (
    LOG2E,
    Plan,
    dot_precision,
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

# As in `pull_triton`: these start anywhere.
_SIDES = [f"{side}_{of}_{name}_ptr" for side in ("row", "column") for of in "st" for name in ("max", "coef")]


@triton.jit(
    do_not_specialize=["N", "M", "first", "end", "shift", "stride"],
    do_not_specialize_on_alignment=[*_SIDES, "s_scale_ptr", "t_scale_ptr"],
)
def kl_strip_kernel(
    sa_ptr,  # student [N, SP]
    sb_ptr,  # [M, SP]
    ta_ptr,  # teacher [N, TP]
    tb_ptr,  # [M, TP]
    s_scale_ptr,  # [1]
    t_scale_ptr,  # [1]
    gain_ptr,  # [1]
    row_s_max_ptr,  # [N] float32
    row_s_coef_ptr,
    row_t_max_ptr,
    row_t_coef_ptr,
    column_s_max_ptr,  # [M] float32
    column_s_coef_ptr,
    column_t_max_ptr,
    column_t_coef_ptr,
    strip_ptr,  # whole tiles of dS·factor
    dscale_ptr,  # [tiles] float64
    N,
    M,
    first,  # rows of this strip: first ≤ i < end
    end,
    shift,
    stride,  # of the strip, in blocks of 16
    SP: tl.constexpr,
    TP: tl.constexpr,
    BLOCK: tl.constexpr,
    S_BLOCK_D: tl.constexpr,
    T_BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUDE: tl.constexpr,
    STORE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row_block, column_block = tile_place(tl.cdiv(end - first, BLOCK), tl.cdiv(M, BLOCK), GROUP)
    row, column = first + row_block * BLOCK, column_block * BLOCK
    rows, columns = row + tl.arange(0, BLOCK), column + tl.arange(0, BLOCK)
    t = product(ta_ptr, tb_ptr, rows, columns, N, M, TP, BLOCK, T_BLOCK_D, PRECISION)
    x = product(sa_ptr, sb_ptr, rows, columns, N, M, SP, BLOCK, S_BLOCK_D, PRECISION)

    s_exponent, factor = factors(s_scale_ptr, gain_ptr)
    t_exponent = tl.load(t_scale_ptr) * LOG2E
    sm, sr = reference(row_s_max_ptr, row_s_coef_ptr, rows, end, factor, ROWS)
    tm, tr = reference(row_t_max_ptr, row_t_coef_ptr, rows, end, factor, ROWS)
    s_top, s_close = near_references(sm, column_s_max_ptr, columns, M, ROWS and COLUMNS)
    t_top, t_close = near_references(tm, column_t_max_ptr, columns, M, ROWS and COLUMNS)
    QUARTER: tl.constexpr = BLOCK // 4
    piece = column_block * BLOCK + tl.arange(0, QUARTER)
    slope = tl.zeros([BLOCK], tl.float32)
    pitch = stride.to(tl.int64) * 16
    x0, x1, x2, x3 = quarters(x, BLOCK)
    t0, t1, t2, t3 = quarters(t, BLOCK)
    for part in tl.static_range(4):
        near = x0 if part == 0 else x1 if part == 1 else x2 if part == 2 else x3
        teacher = t0 if part == 0 else t1 if part == 1 else t2 if part == 2 else t3
        at = piece + part * QUARTER
        sn, sc = reference(column_s_max_ptr, column_s_coef_ptr, at, M, factor, COLUMNS)
        tn, tc = reference(column_t_max_ptr, column_t_coef_ptr, at, M, factor, COLUMNS)
        g = softmax_pull(near, s_exponent, sm, sr, sn, sc, s_top, s_close, ROWS, COLUMNS)
        g -= softmax_pull(teacher, t_exponent, tm, tr, tn, tc, t_top, t_close, ROWS, COLUMNS)
        g = drop_missing(g, row, column + part * QUARTER, end, M, shift, EXCLUDE, BLOCK, QUARTER)
        slope += tl.sum(g * near, 1)
        if STORE:
            store_scaled(strip_ptr + (rows - first).to(tl.int64)[:, None] * pitch + at[None, :], g, s_scale_ptr)
    tl.store(dscale_ptr + tl.program_id(0), tl.sum(slope.to(tl.float64), 0) / factor)


def kl_grads(
    sa: Tensor,
    sb: Tensor,
    ta: Tensor,
    tb: Tensor,
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
    plan: Plan | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """See `_pairs.kl_grads`."""
    dtype, store, device = operand_dtype(precision, sa, sb, ta, tb), need_a or need_b, sa.device
    plan = plan or plan_for(dtype)
    sides = tuple(operand(x, dtype, plan) for x in (sa, sb, ta, tb))
    N, M = len(sides[0]), len(sides[1])
    grads = Gradients(sides[0], sides[1], need_a, need_b, plan, precision)
    row_pull, column_pull = row or col, col or row
    if N == 0 or M == 0 or row_pull is None or column_pull is None:
        return *grads.nothing(), torch.zeros((), dtype=torch.float64, device=device)
    factor = scalar(s_scale, device)
    coefs = [x for pull in (row, col) if pull is not None for x in (pull[1], pull[3])]
    scalars = (factor, scalar(t_scale, device), gain(dtype, factor, *coefs))
    strip, step = grads.buffer() if store else (sides[0].rows, plan.block * triton.cdiv(N, plan.block))
    sums = []
    for first in range(0, N, step):
        end = min(first + step, N)
        tiles = triton.cdiv(end - first, plan.block) * triton.cdiv(M, plan.block)
        sums.append(torch.empty(tiles, dtype=torch.float64, device=device))
        with on_device(device):
            kl_strip_kernel[(tiles,)](
                *(side.rows for side in sides),
                *scalars,
                *row_pull,
                *column_pull,
                strip,
                sums[-1],
                N,
                M,
                first,
                end,
                row_offset - col_offset,
                strip.stride(0) // 16,
                SP=sides[0].padded,
                TP=sides[2].padded,
                BLOCK=plan.block,
                S_BLOCK_D=slice_width(sides[0].D, plan),
                T_BLOCK_D=slice_width(sides[2].D, plan),
                GROUP=plan.group,
                ROWS=row is not None,
                COLUMNS=col is not None,
                EXCLUDE=exclude_diagonal,
                STORE=store,
                PRECISION=dot_precision(precision, dtype),
                num_warps=plan.pair_warps,
                num_stages=plan.stages,
            )
        if store:
            grads.add(strip, first, end)
    return *grads.finish(scalars[2]), torch.cat(sums).sum()
