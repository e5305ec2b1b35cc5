"""Fused scan and filter: which rows can be among the k best of each query, proven from low-precision scores.

The N×M score matrix lives only in registers, one tile at a time. With ``err(q, x)`` the bound of the packed images,
``score - err <= true score <= score + err``. ``floor[q]`` is the k-th largest lower end seen so far, so at least k rows
reach it and a row whose upper end stays below it cannot be among the k best: the survivors contain every answer.
Tiles are visited in phases that grow geometrically, in a stride order that samples the whole database; after each
phase the floor rises and the buffers are compacted. Survivors take their slot by an integer atomic: the set of
survivors does not depend on the order of arrival, and the caller sorts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl

from .pack_triton import Packed

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
    columns = (tile * BLOCK_M).to(tl.int32) + tl.arange(0, BLOCK_M)
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
    tile_err = alpha * tl.max(rho, 0) + beta * tl.max(norm, 0) + _FORMING * ratio * tl.max(size, 0) + slack
    hit = score >= (floor - tile_err * _UP)[:, None]
    if SEED:
        hit = score == score
    if tl.max(tl.max(hit.to(tl.int32), 1), 0) > 0:
        err = alpha[:, None] * rho[None, :] + beta[:, None] * norm[None, :] + slack[:, None]
        err = (err + _FORMING * ratio[:, None] * size[None, :]) * _UP
        low = score - err
        high = score + err
        ids = base + columns
        own = tl.load(self_ptr + rows, mask=row_live, other=-1)
        keep = hit & (high >= floor[:, None]) & (score > float("-inf")) & (ids[None, :] != own[:, None])
        keep = keep & row_live[:, None] & column_live[None, :]
        if SEED:
            # Every slot is written once, without atomics: slot = position in the visiting order.
            slot = (first + turn) * BLOCK_M + tl.arange(0, BLOCK_M)[None, :] + tl.zeros_like(rows)[:, None]
            low = tl.where(keep, low, float("-inf"))
            high = tl.where(keep, high, float("-inf"))
            write = row_live[:, None] & (slot < capacity)
        else:
            # One atomic per row and tile reserves the slots; inside the tile they follow the columns.
            taken = keep.to(tl.int32)
            hits = tl.sum(taken, 1)
            offset = tl.atomic_add(count_ptr + rows, hits, mask=hits > 0, sem="relaxed")
            slot = offset[:, None] + tl.cumsum(taken, 1) - 1
            write = keep & (slot < capacity)
        at = rows.to(tl.int64)[:, None] * capacity + slot
        tl.store(low_ptr + at, low, mask=write)
        tl.store(high_ptr + at, high, mask=write)
        tl.store(id_ptr + at, ids[None, :] + tl.zeros_like(rows)[:, None], mask=write)


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


def query_bounds(queries: Packed, frame, dtype: torch.dtype) -> QueryBounds:
    """Factors of ``err = alpha rho + beta norm + FORMING ratio |bias| + slack``; not finite for unusable queries.

    ``slack`` covers underflow and the rounding of the float64 ranking itself: rows that tie in float64 survive together.
    """
    up = 1.0 + 2.0**-20
    norm, rho = queries.norm.double(), queries.rho.double()
    gamma = frame.padded * GAMMA[dtype] + FORMING
    length = norm + rho
    ratio = torch.ones_like(norm)
    float64_unit = (frame.D + 8) * 2.0**-51
    if frame.metric == "l2":
        ratio = torch.ldexp(ratio, frame.exponent - queries.exponent)
        rounding = float64_unit * norm * norm / ratio
    elif frame.metric == "ip":
        rounding = float64_unit * norm * frame.mean_norm
    else:
        rounding = torch.full_like(norm, float64_unit)
    slack = (rounding + (frame.padded + 8) * 2.0**-125) * up
    parts = (length * (1 + gamma) * up, (rho + gamma * length) * up, ratio, slack)
    return QueryBounds(*(part.float() for part in parts))


@dataclass
class Survivors:
    """Candidate buffers of a block of queries."""

    low: torch.Tensor  # [N, capacity] float32
    high: torch.Tensor  # [N, capacity] float32
    ids: torch.Tensor  # [N, capacity] int32
    count: torch.Tensor  # [N] int32
    floor: torch.Tensor  # [N] float32
    overflow: torch.Tensor  # [N] bool

    @classmethod
    def empty(cls, floor: torch.Tensor, capacity: int) -> Survivors:
        N, device = len(floor), floor.device
        low, high = (torch.empty((N, capacity), dtype=torch.float32, device=device) for _ in range(2))
        ids = torch.empty((N, capacity), dtype=torch.int32, device=device)
        count = torch.zeros(N, dtype=torch.int32, device=device)
        return cls(low, high, ids, count, floor, torch.zeros(N, dtype=torch.bool, device=device))

    def refresh(self, k: int) -> None:
        """Raise the floor to the k-th largest lower end and drop the rows that stay below it."""
        N, capacity = self.low.shape
        self.overflow |= self.count > capacity
        slots = torch.arange(capacity, device=self.low.device)
        filled = self.low.masked_fill(slots >= self.count[:, None], -math.inf)
        if k <= capacity:
            kth = filled.topk(k, dim=1, sorted=False).values.amin(dim=1)
            self.floor = torch.maximum(self.floor, kth)
        low, high, ids = filled.new_empty(N, capacity), torch.empty_like(self.high), torch.empty_like(self.ids)
        compact_kernel[(N,)](
            self.low, self.high, self.ids, low, high, ids, self.count, self.floor, capacity, BLOCK=512, num_warps=4
        )
        self.low, self.high, self.ids = low, high, ids

    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(row, id) of every survivor of the rows that did not overflow: two int64 [pairs]."""
        slots = torch.arange(self.ids.shape[1], device=self.ids.device)
        live = (slots < self.count[:, None]) & ~self.overflow[:, None]
        row, slot = live.nonzero(as_tuple=True)
        return row, self.ids[row, slot].long()


def _visit_step(tiles: int) -> int:
    """A stride near the golden section, coprime to ``tiles``: any prefix of the order is spread over all tiles."""
    step = max(1, round(tiles * 0.6180339887))
    while math.gcd(step, tiles) != 1:
        step += 1
    return step


def _launch(q: Packed, bounds: QueryBounds, own: torch.Tensor, x: Packed, out: Survivors, plan: Plan, **span) -> None:
    N, DP = q.image.shape
    grid = (triton.cdiv(N, plan.block_n) * (span["last"] - span["first"]),)
    scan_kernel[grid](
        q.image,
        x.image,
        bounds.alpha,
        bounds.beta,
        bounds.ratio,
        bounds.slack,
        out.floor,
        own,
        x.rho,
        x.norm,
        x.bias,
        out.low,
        out.high,
        out.ids,
        out.count,
        N,
        len(x),
        span["base"],
        span["first"],
        span["tiles"],
        span["step"],
        out.ids.shape[1],
        DP=DP,
        BLOCK_N=plan.block_n,
        BLOCK_M=plan.block_m,
        BLOCK_D=plan.block_d,
        SEED=span["seed"],
        num_warps=plan.warps,
        num_stages=plan.stages,
    )


def scan(
    queries: Packed,
    bounds: QueryBounds,
    own: torch.Tensor,  # [N] int32, row each query must not return, or -1
    x: Packed,
    k: int,
    plan: Plan,
) -> Survivors:
    """Every row of ``x`` that can be among the k best of each query, found in growing phases."""
    floor = torch.full((len(queries),), -math.inf, device=queries.norm.device)
    out = Survivors.empty(floor, plan.capacity)
    tiles = triton.cdiv(len(x), plan.block_m)
    step = _visit_step(tiles)
    # The seed fills slots without counting, so it may not exceed the buffer.
    seed_tiles = min(tiles, max(1, min(plan.seed, plan.capacity) // plan.block_m))
    first, last = 0, seed_tiles
    while first < tiles:
        seed = first == 0
        _launch(queries, bounds, own, x, out, plan, base=0, first=first, last=last, tiles=tiles, step=step, seed=seed)
        if seed:
            out.count.fill_(seed_tiles * plan.block_m)
        out.refresh(k)
        first, last = last, min(tiles, last * plan.growth)
    return out


def rescan(
    queries: Packed,
    bounds: QueryBounds,
    own: torch.Tensor,
    blocks,  # iterable of (base, Packed): consecutive parts of the database
    k: int,
    floor: torch.Tensor,  # [N] float32, a lower bound of each query's k-th best score
    plan: Plan,
) -> Survivors:
    """As `scan`, from a floor that is already known: one pass over the blocks into a larger buffer."""
    out = Survivors.empty(floor, plan.capacity)
    for base, x in blocks:
        tiles = triton.cdiv(len(x), plan.block_m)
        _launch(queries, bounds, own, x, out, plan, base=base, first=0, last=tiles, tiles=tiles, step=1, seed=False)
        out.refresh(k)
    return out


def larger(plan: Plan, factor: int = 8) -> Plan:
    """The same plan with more room per query."""
    return replace(plan, capacity=plan.capacity * factor)
