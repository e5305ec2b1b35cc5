"""The best row of every query in one pass, and sums of rows by label: the two halves of a k-means step."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .pack_triton import Packed, on_device
from .scan_triton import FORMING, Plan, QueryBounds

_FORMING = tl.constexpr(FORMING)
_UP = tl.constexpr(1.0 + 2.0**-20)
# Rows of a cluster summed by one program; longer clusters are cut and their parts summed in order.
SEGMENT_ROWS = 256
# Programs wanted on the device before the rows of a bank are no longer split.
_PROGRAMS = 512


@triton.jit(do_not_specialize=["N", "M", "tiles_each"])
def nearest_kernel(
    q_ptr,  # [N, DP] images of the queries
    x_ptr,  # [M, DP] images of the rows
    alpha_ptr,  # [N] float32
    beta_ptr,  # [N] float32
    ratio_ptr,  # [N] float32
    slack_ptr,  # [N] float32
    rho_ptr,  # [M] float32
    norm_ptr,  # [M] float32
    bias_ptr,  # [M] float32
    high_ptr,  # [splits, N] float32: largest upper end
    low_ptr,  # [splits, N] float32: lower end of that row
    rival_ptr,  # [splits, N] float32: largest upper end of any other row
    id_ptr,  # [splits, N] int32
    N,
    M,
    tiles_each,
    DP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_live = rows < N
    lanes = tl.arange(0, BLOCK_D)
    q_tile = q_ptr + tl.minimum(rows, N - 1).to(tl.int64)[:, None] * DP + lanes[None, :]
    ratio = tl.load(ratio_ptr + rows, mask=row_live, other=1.0)
    alpha = tl.load(alpha_ptr + rows, mask=row_live, other=0.0)
    beta = tl.load(beta_ptr + rows, mask=row_live, other=0.0)
    slack = tl.load(slack_ptr + rows, mask=row_live, other=0.0)

    high = tl.full([BLOCK_N], float("-inf"), tl.float32)
    low = tl.full([BLOCK_N], float("-inf"), tl.float32)
    rival = tl.full([BLOCK_N], float("-inf"), tl.float32)
    best = tl.zeros([BLOCK_N], tl.int32)
    first = tl.program_id(1) * tiles_each
    last = tl.minimum(first + tiles_each, tl.cdiv(M, BLOCK_M))
    for tile in range(first, last):
        columns = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        column_live = columns < M
        x_tile = x_ptr + tl.minimum(columns, M - 1).to(tl.int64)[None, :] * DP + lanes[:, None]
        score = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        for start in range(0, DP, BLOCK_D):
            score = tl.dot(tl.load(q_tile + start), tl.load(x_tile + start), score, input_precision="ieee")
        rho = tl.load(rho_ptr + columns, mask=column_live, other=0.0)
        norm = tl.load(norm_ptr + columns, mask=column_live, other=0.0)
        bias = tl.load(bias_ptr + columns, mask=column_live, other=float("-inf"))
        size = tl.where(bias > float("-inf"), -bias, 0.0)
        score = score + ratio[:, None] * bias[None, :]
        err = (alpha * tl.max(rho, 0) + beta * tl.max(norm, 0) + _FORMING * ratio * tl.max(size, 0) + slack) * _UP
        top, at = tl.max(score, 1, return_indices=True)
        second = tl.max(tl.where(tl.arange(0, BLOCK_M)[None, :] == at[:, None], float("-inf"), score), 1)
        better = top + err > high
        rival = tl.maximum(tl.maximum(rival, second + err), tl.where(better, high, top + err))
        low = tl.where(better, top - err, low)
        best = tl.where(better, tile * BLOCK_M + at, best)
        high = tl.where(better, top + err, high)
    out = tl.program_id(1).to(tl.int64) * N + rows
    tl.store(high_ptr + out, high, mask=row_live)
    tl.store(low_ptr + out, low, mask=row_live)
    tl.store(rival_ptr + out, rival, mask=row_live)
    tl.store(id_ptr + out, best, mask=row_live)


def best_and_rival(queries: Packed, bounds: QueryBounds, x: Packed, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Lower end of the best row, its id, and the largest upper end of all others: [N] float32, int64, float32.

    The row is proven best where ``low > rival``; not-finite bounds compare false and prove nothing.
    """
    N, M = len(queries), len(x)
    device = queries.norm.device
    blocks, tiles = triton.cdiv(N, plan.block_n), triton.cdiv(M, plan.block_m)
    splits = max(1, min(tiles, _PROGRAMS // max(1, blocks)))
    tiles_each = triton.cdiv(tiles, splits)
    splits = triton.cdiv(tiles, tiles_each)
    high, low, rival = (torch.empty((splits, N), dtype=torch.float32, device=device) for _ in range(3))
    ids = torch.empty((splits, N), dtype=torch.int32, device=device)
    with on_device(device):
        nearest_kernel[(blocks, splits)](
            queries.image,
            x.image,
            bounds.alpha,
            bounds.beta,
            bounds.ratio,
            bounds.slack,
            x.rho,
            x.norm,
            x.bias,
            high,
            low,
            rival,
            ids,
            N,
            M,
            tiles_each,
            DP=queries.image.shape[1],
            BLOCK_N=plan.block_n,
            BLOCK_M=plan.block_m,
            BLOCK_D=min(plan.block_d, queries.image.shape[1]),
            num_warps=plan.warps,
            num_stages=plan.stages,
        )
    split = high.argmax(dim=0)
    others = high.scatter(0, split[None], float("-inf")).amax(dim=0)
    rival = torch.maximum(rival.amax(dim=0), others)
    low = low.gather(0, split[None])[0]
    return low, ids.gather(0, split[None])[0].long(), rival


@triton.jit(do_not_specialize=["D", "stride_n", "stride_d"], do_not_specialize_on_alignment=["x_ptr"])
def segment_sum_kernel(
    x_ptr,  # [N, D] any float dtype, any strides
    order_ptr,  # [N] int64
    start_ptr,  # [segments] int64
    end_ptr,  # [segments] int64
    weight_ptr,  # [N] float64
    out_ptr,  # [segments, D] float64
    D,
    stride_n,
    stride_d,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    segment = tl.program_id(0)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.zeros([BLOCK_D], tl.float64)
    start = tl.load(start_ptr + segment)
    end = tl.load(end_ptr + segment)
    for place in range(start, end, BLOCK_R):
        at = place + tl.arange(0, BLOCK_R)
        row = tl.load(order_ptr + at, mask=at < end, other=0)
        inside = (at < end)[:, None] & (d < D)[None, :]
        x = tl.load(x_ptr + row[:, None] * stride_n + d.to(tl.int64)[None, :] * stride_d, mask=inside, other=0.0)
        weight = tl.load(weight_ptr + row, mask=at < end, other=0.0)
        total += tl.sum(x.to(tl.float64) * weight[:, None], axis=0)
    tl.store(out_ptr + segment.to(tl.int64) * D + d, total, mask=d < D)


def _segment_sums(x: Tensor, weights: Tensor, order: Tensor, start: Tensor, end: Tensor) -> Tensor:
    D = x.shape[1]
    out = torch.empty((len(start), D), dtype=torch.float64, device=x.device)
    block_d = min(64, triton.next_power_of_2(D))
    if len(start):
        grid = (len(start), triton.cdiv(D, block_d))
        with on_device(x.device):
            segment_sum_kernel[grid](
                x,
                order,
                start,
                end,
                weights,
                out,
                D,
                x.stride(0),
                x.stride(1),
                BLOCK_R=16,
                BLOCK_D=block_d,
                num_warps=4,
            )
    return out


def label_sums(x: Tensor, labels: Tensor, K: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum and number of the rows of each label: ``zeros(K, D).index_add_(0, labels, w[:, None] * x)``, reproducible.

    Rows are sorted by label and added segment by segment in a fixed order; no floating-point atomics.

    Args:
        x: [N, D].
        labels: [N] int64 in [0, K).
        K: number of labels.
        weights: [N] float64 factor of each row, default 1; by which it is multiplied.

    Returns:
        sums [K, D] float64, counts [K] int64.
    """
    order = labels.argsort(stable=True)
    counts = torch.bincount(labels, minlength=K)
    last = counts.cumsum(0)
    parts = (counts + SEGMENT_ROWS - 1) // SEGMENT_ROWS
    last_part = parts.cumsum(0)
    label = torch.repeat_interleave(torch.arange(K, device=x.device), parts)
    within = torch.arange(len(label), device=x.device) - (last_part - parts)[label]
    start = (last - counts)[label] + within * SEGMENT_ROWS
    end = torch.minimum(start + SEGMENT_ROWS, last[label])
    ones = torch.ones(max(len(x), len(label)), dtype=torch.float64, device=x.device)
    partial = _segment_sums(x, ones if weights is None else weights, order, start, end)
    whole = torch.arange(len(label), device=x.device)
    return _segment_sums(partial, ones, whole, last_part - parts, last_part), counts
