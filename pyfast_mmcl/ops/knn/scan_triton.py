"""The scan: one fused kernel that scores a tile of queries against a tile of rows and keeps what reaches the floor.

The N×M score matrix lives only in registers, one tile at a time; D is streamed in overlapping stages. With ``err`` the
bound of the packed images, ``score - err <= true score <= score + err``. A row is kept iff its upper end reaches the
query's floor. Survivors take their slot by an integer atomic: their set does not depend on the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl

from .pack_triton import Frame, Packed, power_of_two

# Accumulation error per unit of D: tensor cores align and truncate, CUDA cores round to nearest.
GAMMA = {torch.float16: 2.0**-21, torch.float32: 2.0**-23}
# Forming score, bias and bounds in float32; twice what the individual roundings add up to.
FORMING = 2.0**-20
_FORMING = tl.constexpr(FORMING)
_UP = tl.constexpr(1.0 + 2.0**-20)


@dataclass(frozen=True)
class Plan:
    """Block shapes and buffer sizes; every value is legal, the defaults suit a large GPU."""

    block_n: int = 128
    block_m: int = 128
    block_d: int = 64
    warps: int = 4
    stages: int = 3
    capacity: int = 1024  # candidates kept per query
    seed: int = 1024  # rows scored before any floor exists
    growth: int = 8  # rows seen after a phase / before it


def plan_for(N: int, D_padded: int, k: int) -> Plan:
    """The default plan: small query blocks for few queries, buffers that hold 16 k candidates."""
    capacity = max(1024, triton.next_power_of_2(16 * k))
    seed = max(1024, triton.next_power_of_2(4 * k))
    block_n = 16 if N <= 16 else 64 if N <= 64 else 128
    return Plan(block_n=block_n, block_d=min(64, D_padded), capacity=capacity, seed=seed)


def larger(plan: Plan, factor: int = 8) -> Plan:
    """The same plan with more room per query."""
    return replace(plan, capacity=plan.capacity * factor)


def for_float32(plan: Plan) -> Plan:
    """The same plan with tiles whose float32 operands fit the registers: these products run on the CUDA cores."""
    return replace(plan, block_n=min(64, plan.block_n), block_m=min(64, plan.block_m), block_d=min(32, plan.block_d))


@triton.jit
def _halves(tile, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    # Left and right half of the columns; both stay in the registers they are in.
    return tl.split(tl.permute(tl.reshape(tile, [ROWS, 2, WIDTH // 2]), (0, 2, 1)))


@triton.jit
def _collect(
    score,  # [BLOCK_N, WIDTH]
    rows,  # [BLOCK_N]
    line,  # [BLOCK_N] scores below it cannot reach the floor
    floor,  # [BLOCK_N]
    alpha,
    beta,
    ratio,
    slack,
    rho_ptr,
    norm_ptr,
    bias_ptr,
    self_ptr,
    low_ptr,
    high_ptr,
    id_ptr,
    count_ptr,
    N,
    M,
    base,
    column,  # first column of the piece
    place,  # its position in the visiting order
    capacity,
    WIDTH: tl.constexpr,
    SEED: tl.constexpr,
):
    # Appends the survivors of one piece of a tile. Few pieces have any, and a narrow piece needs few registers.
    hit = score >= line[:, None]
    if SEED:
        hit = score == score
    if tl.max(tl.max(hit.to(tl.int32), 1), 0) > 0:
        columns = column + tl.arange(0, WIDTH)
        row_live = rows < N
        column_live = columns < M
        rho = tl.load(rho_ptr + columns, mask=column_live, other=0.0)
        norm = tl.load(norm_ptr + columns, mask=column_live, other=0.0)
        bias = tl.load(bias_ptr + columns, mask=column_live, other=float("-inf"))
        size = tl.where(bias > float("-inf"), -bias, 0.0)
        own = tl.load(self_ptr + rows, mask=row_live, other=-1)
        err = alpha[:, None] * rho[None, :] + beta[:, None] * norm[None, :] + slack[:, None]
        err = (err + _FORMING * ratio[:, None] * size[None, :]) * _UP
        low = score - err
        high = score + err
        ids = base + columns
        # Skipped rows and columns behind the last one have a bias, hence a score, of -inf.
        keep = hit & (high >= floor[:, None]) & (score > float("-inf")) & (ids[None, :] != own[:, None])
        keep = keep & row_live[:, None]
        if SEED:
            # Every slot is written once, without atomics: slot = position in the visiting order.
            slot = place + tl.arange(0, WIDTH)[None, :] + tl.zeros_like(rows)[:, None]
            low = tl.where(keep, low, float("-inf"))
            high = tl.where(keep, high, float("-inf"))
            write = row_live[:, None] & (slot < capacity)
        else:
            # One atomic per row and piece reserves the slots; inside the piece they follow the columns.
            taken = keep.to(tl.int32)
            hits = tl.sum(taken, 1)
            reserved = tl.atomic_add(count_ptr + rows, hits, mask=hits > 0, sem="relaxed")
            slot = reserved[:, None] + tl.cumsum(taken, 1) - 1
            write = keep & (slot < capacity)
        at = rows.to(tl.int64)[:, None] * capacity + slot
        tl.store(low_ptr + at, low, mask=write)
        tl.store(high_ptr + at, high, mask=write)
        tl.store(id_ptr + at, ids[None, :] + tl.zeros_like(rows)[:, None], mask=write)


@triton.jit(do_not_specialize=["N", "M", "base", "first", "tiles", "step", "capacity"])
def scan_kernel(
    q_ptr,  # [N, DP] images of the queries
    x_ptr,  # [M, DP] images of the rows
    alpha_ptr,  # [N] float32: factor of rho
    beta_ptr,  # [N] float32: factor of norm
    ratio_ptr,  # [N] float32: scale of bias
    slack_ptr,  # [N] float32: constant part of the bound
    floor_ptr,  # [N] float32
    self_ptr,  # [N] int32: row that must not be returned, or -1
    rho_ptr,  # [M] float32
    norm_ptr,  # [M] float32
    bias_ptr,  # [M] float32, -inf for rows the scan must skip
    low_ptr,  # [N, capacity] float32, lower ends of the survivors
    high_ptr,  # [N, capacity] float32, upper ends
    id_ptr,  # [N, capacity] int32
    count_ptr,  # [N] int32, runs past capacity when the buffer is too small
    N,
    M,
    base,
    first,
    tiles,
    step,
    capacity,
    DP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SEED: tl.constexpr,
):
    # Neighbouring programs share a database tile, so that it is read from memory once.
    blocks = tl.cdiv(N, BLOCK_N)
    turn = tl.program_id(0) // blocks
    tile = ((first + turn).to(tl.int64) * step) % tiles
    rows = (tl.program_id(0) % blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    column = (tile * BLOCK_M).to(tl.int32)
    columns = column + tl.arange(0, BLOCK_M)
    lanes = tl.arange(0, BLOCK_D)
    # Clamped instead of masked: the pipelined loop has no predicates; excess rows and columns are dropped below.
    q_tile = q_ptr + tl.minimum(rows, N - 1).to(tl.int64)[:, None] * DP + lanes[None, :]
    x_tile = x_ptr + tl.minimum(columns, M - 1).to(tl.int64)[None, :] * DP + lanes[:, None]
    score = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for start in range(0, DP, BLOCK_D):
        score = tl.dot(tl.load(q_tile + start), tl.load(x_tile + start), score, input_precision="ieee")

    row_live = rows < N
    column_live = columns < M
    ratio = tl.load(ratio_ptr + rows, mask=row_live, other=1.0)
    alpha = tl.load(alpha_ptr + rows, mask=row_live, other=0.0)
    beta = tl.load(beta_ptr + rows, mask=row_live, other=0.0)
    slack = tl.load(slack_ptr + rows, mask=row_live, other=0.0)
    floor = tl.load(floor_ptr + rows, mask=row_live, other=float("inf"))
    rho = tl.load(rho_ptr + columns, mask=column_live, other=0.0)
    norm = tl.load(norm_ptr + columns, mask=column_live, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=column_live, other=float("-inf"))
    size = tl.where(bias > float("-inf"), -bias, 0.0)
    score = score + ratio[:, None] * bias[None, :]
    # One bound for the whole tile keeps the common path at two operations per score.
    err = alpha * tl.max(rho, 0) + beta * tl.max(norm, 0) + _FORMING * ratio * tl.max(size, 0) + slack
    line = floor - err * _UP

    place = (first + turn) * BLOCK_M
    HALF: tl.constexpr = BLOCK_M // 2
    PIECE: tl.constexpr = BLOCK_M // 4
    left, right = _halves(score, BLOCK_N, BLOCK_M)
    one, two = _halves(left, BLOCK_N, HALF)
    three, four = _halves(right, BLOCK_N, HALF)
    last = HALF + PIECE
    # fmt: off
    _collect(one, rows, line, floor, alpha, beta, ratio, slack, rho_ptr, norm_ptr, bias_ptr, self_ptr, low_ptr,
             high_ptr, id_ptr, count_ptr, N, M, base, column, place, capacity, PIECE, SEED)
    _collect(two, rows, line, floor, alpha, beta, ratio, slack, rho_ptr, norm_ptr, bias_ptr, self_ptr, low_ptr,
             high_ptr, id_ptr, count_ptr, N, M, base, column + PIECE, place + PIECE, capacity, PIECE, SEED)
    _collect(three, rows, line, floor, alpha, beta, ratio, slack, rho_ptr, norm_ptr, bias_ptr, self_ptr, low_ptr,
             high_ptr, id_ptr, count_ptr, N, M, base, column + HALF, place + HALF, capacity, PIECE, SEED)
    _collect(four, rows, line, floor, alpha, beta, ratio, slack, rho_ptr, norm_ptr, bias_ptr, self_ptr, low_ptr,
             high_ptr, id_ptr, count_ptr, N, M, base, column + last, place + last, capacity, PIECE, SEED)
    # fmt: on


@triton.jit(do_not_specialize=["capacity"])
def compact_kernel(
    low_ptr,  # [N, capacity]
    high_ptr,  # [N, capacity]
    id_ptr,  # [N, capacity]
    low_out_ptr,  # [N, capacity]
    high_out_ptr,  # [N, capacity]
    id_out_ptr,  # [N, capacity]
    count_ptr,  # [N] int32, in: filled slots; out: kept slots
    floor_ptr,  # [N] float32
    capacity,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    filled = tl.minimum(tl.load(count_ptr + row), capacity)
    floor = tl.load(floor_ptr + row)
    offset = row.to(tl.int64) * capacity
    kept = 0
    for start in range(0, filled, BLOCK):
        slot = start + tl.arange(0, BLOCK)
        live = slot < filled
        low = tl.load(low_ptr + offset + slot, mask=live, other=0.0)
        high = tl.load(high_ptr + offset + slot, mask=live, other=float("-inf"))
        ids = tl.load(id_ptr + offset + slot, mask=live, other=0)
        keep = live & (high >= floor) & (high > float("-inf"))
        target = offset + kept + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(low_out_ptr + target, low, mask=keep)
        tl.store(high_out_ptr + target, high, mask=keep)
        tl.store(id_out_ptr + target, ids, mask=keep)
        kept += tl.sum(keep.to(tl.int32), 0)
    tl.store(count_ptr + row, kept)


@dataclass
class QueryBounds:
    """Per-query factors of the error bound, in the scaled units of the frame."""

    alpha: torch.Tensor  # [N] float32
    beta: torch.Tensor  # [N] float32
    ratio: torch.Tensor  # [N] float32
    slack: torch.Tensor  # [N] float32

    def part(self, rows: torch.Tensor) -> QueryBounds:
        return QueryBounds(self.alpha[rows], self.beta[rows], self.ratio[rows], self.slack[rows])


def query_bounds(queries: Packed, frame: Frame, dtype: torch.dtype) -> QueryBounds:
    """Factors of ``err = alpha rho + beta norm + FORMING ratio |bias| + slack``; not finite for unusable queries.

    ``slack`` covers underflow and the rounding of the float64 ranking itself: rows that tie there survive together.
    """
    up = 1.0 + 2.0**-20
    norm, rho = queries.norm.double(), queries.rho.double()
    gamma = frame.padded * GAMMA[dtype] + FORMING
    length = norm + rho
    ratio = torch.ones_like(norm)
    float64_unit = (frame.D + 8) * 2.0**-51
    if frame.metric == "l2":
        ratio = power_of_two(frame.exponent - queries.exponent)
        rounding = float64_unit * norm * norm / ratio
    elif frame.metric == "ip":
        rounding = float64_unit * norm * frame.mean_norm
    else:
        rounding = torch.full_like(norm, float64_unit * 2.0**-frame.exponent)
    slack = (rounding + (frame.padded + 8) * 2.0**-125) * up
    parts = (length * (1 + gamma) * up, (rho + gamma * length) * up, ratio, slack)
    return QueryBounds(*(part.float() for part in parts))
