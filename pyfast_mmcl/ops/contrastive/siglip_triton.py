"""SigLIP's pair loss: no softmax, so one pass gives loss and gradients, three products of the sides in all."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .pull_triton import gain
from .strip_triton import Gradients
from .tile_triton import (
    LOG2E,
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


@triton.jit
def log1p_unit(e):
    # log(1 + e) for 0 ≤ e ≤ 1 to 2 units in the last place: e times a minimax polynomial. log(1 + e) itself would lose
    # the e = 1e-5 of a usual negative pair in its last three digits.
    # fmt: off
    p = tl.fma(e, 0.005232624243944883, -0.029504956677556038)
    p = tl.fma(e, p, 0.07822549343109131)
    p = tl.fma(e, p, -0.1366320699453354)
    p = tl.fma(e, p, 0.1910598874092102)
    p = tl.fma(e, p, -0.2484297752380371)
    p = tl.fma(e, p, 0.3331909477710724)
    p = tl.fma(e, p, -0.4999949336051941)
    # fmt: on
    return e * tl.fma(e, p, 0.9999999403953552)


@triton.jit
def softplus(z):
    # softplus(z) and its derivative σ(z) from one exponential. A plain maximum would drop a NaN.
    e = tl.exp2(-tl.abs(z) * LOG2E)
    share = 1.0 / (1.0 + e)
    return tl.where(z < 0.0, 0.0, z) + log1p_unit(e), tl.where(z < 0.0, e * share, share)


@triton.jit
def siglip_pull(s, row_id, meet, row, end, column_id_ptr, column, M, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    # Loss softplus(−y·s) of some columns of a tile and its derivative by s: σ(s), for a positive pair −σ(−s).
    columns = column + tl.arange(0, WIDTH)
    if meet:
        column_id = tl.load(column_id_ptr + tl.minimum(columns, M - 1))
        positive = row_id[:, None] == column_id[None, :]
        loss, g = softplus(tl.where(positive, -s, s))
        g = tl.where(positive, -g, g)
    else:
        loss, g = softplus(s)
    if (row + BLOCK > end) | (column + WIDTH > M):
        live = (row + tl.arange(0, BLOCK) < end)[:, None] & (columns < M)[None, :]
        loss, g = tl.where(live, loss, 0.0), tl.where(live, g, 0.0)
    return loss, g


@triton.jit(
    do_not_specialize=["N", "M", "first", "end", "stride", "tiles"],
    do_not_specialize_on_alignment=["row_id_ptr", "column_id_ptr", "scale_ptr", "bias_ptr"],
)
def siglip_strip_kernel(
    a_ptr,  # [N, DP]
    b_ptr,  # [M, DP]
    row_id_ptr,  # [N] int64
    column_id_ptr,  # [M] int64
    scale_ptr,  # [1]
    bias_ptr,  # [1]
    gain_ptr,  # [1]
    strip_ptr,  # whole tiles of dS·scale·gain
    sum_ptr,  # [3, tiles] float64: loss, dscale, dbias
    N,
    M,
    first,  # rows of this strip: first ≤ i < end
    end,
    stride,  # of the strip, in blocks of 16
    tiles,
    DP: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    STORE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row_block, column_block = tile_place(tl.cdiv(end - first, BLOCK), tl.cdiv(M, BLOCK), GROUP)
    row, column = first + row_block * BLOCK, column_block * BLOCK
    rows, columns = row + tl.arange(0, BLOCK), column + tl.arange(0, BLOCK)
    x = product(a_ptr, b_ptr, rows, columns, N, M, DP, BLOCK, BLOCK_D, PRECISION)

    scale, bias = tl.load(scale_ptr), tl.load(bias_ptr)
    factor = scale * tl.load(gain_ptr)
    row_id = tl.load(row_id_ptr + tl.minimum(rows, end - 1))
    meet = ids_meet(row_id, tl.load(column_id_ptr + tl.minimum(columns, M - 1)))
    QUARTER: tl.constexpr = BLOCK // 4
    loss, slope, height = (tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32))
    pitch = stride.to(tl.int64) * 16
    x0, x1, x2, x3 = quarters(x, BLOCK)
    for part in tl.static_range(4):
        near = x0 if part == 0 else x1 if part == 1 else x2 if part == 2 else x3
        at = column + part * QUARTER
        pair_loss, g = siglip_pull(near * scale + bias, row_id, meet, row, end, column_id_ptr, at, M, BLOCK, QUARTER)
        loss += tl.sum(pair_loss, 1)
        slope += tl.sum(g * near, 1)
        height += tl.sum(g, 1)
        if STORE:
            place = strip_ptr + (rows - first).to(tl.int64)[:, None] * pitch + (at + tl.arange(0, QUARTER))[None, :]
            tl.store(place, (g * factor).to(strip_ptr.dtype.element_ty))
    out = sum_ptr + tl.program_id(0)
    tl.store(out, tl.sum(loss.to(tl.float64), 0))
    tl.store(out + tiles, tl.sum(slope.to(tl.float64), 0))
    tl.store(out + 2 * tiles, tl.sum(height.to(tl.float64), 0))


def siglip_pass(
    a: Tensor,
    b: Tensor,
    scale: Any,
    bias: Any,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    need_a: bool = True,
    need_b: bool = True,
    precision: str = "auto",
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """See `_pairs.siglip_pass`."""
    dtype, store = operand_dtype(precision, a, b), need_a or need_b
    plan = plan or plan_for(dtype)
    factor = scalar(scale, a.device)
    scalars = (factor, scalar(bias, a.device), gain(dtype, factor, torch.ones_like(factor)))
    left, right = operand(a, dtype, plan), operand(b, dtype, plan)
    N, M = len(left), len(right)
    grads = Gradients(left, right, need_a, need_b, plan, precision)
    if N == 0 or M == 0:
        zero = torch.zeros(3, dtype=torch.float64, device=a.device)
        return zero[0], *grads.nothing(), zero[1], zero[2]
    strip, step = grads.buffer() if store else (left.rows, plan.block * triton.cdiv(N, plan.block))
    sums = []
    for first in range(0, N, step):
        end = min(first + step, N)
        tiles = triton.cdiv(end - first, plan.block) * triton.cdiv(M, plan.block)
        sums.append(torch.empty(3, tiles, dtype=torch.float64, device=a.device))
        with on_device(a.device):
            siglip_strip_kernel[(tiles,)](
                left.rows,
                right.rows,
                row_ids.contiguous(),
                col_ids.contiguous(),
                *scalars,
                strip,
                sums[-1],
                N,
                M,
                first,
                end,
                strip.stride(0) // 16,
                tiles,
                DP=left.padded,
                BLOCK=plan.block,
                BLOCK_D=slice_width(left.D, plan),
                GROUP=plan.group,
                STORE=store,
                PRECISION=dot_precision(precision, dtype),
                num_warps=plan.warps,
                num_stages=plan.stages,
            )
        if store:
            grads.add(strip, first, end)
    loss, dscale, dbias = torch.cat(sums, dim=1).sum(1)
    return loss, *grads.finish(scalars[2]), dscale, dbias
