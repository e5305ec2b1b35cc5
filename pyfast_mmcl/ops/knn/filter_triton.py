"""The phased filter: which rows can be among the k best of each query, proven from low-precision scores.

``floor[q]`` is the k-th largest lower end seen so far. At least k rows reach it, so a row whose upper end stays below
cannot be among the k best: the survivors contain every answer, ties included. Tiles are visited in phases that grow
geometrically, in a stride order that samples the whole database; after each phase the floor rises and the buffers are
compacted. A buffer that ran over is flagged, never cut silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import triton

from .pack_triton import Packed, on_device
from .scan_triton import Plan, QueryBounds, compact_kernel, scan_kernel


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
        with on_device(low.device):
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
    with on_device(q.image.device):
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
            BLOCK_D=min(plan.block_d, DP),
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
    blocks: Iterable[tuple[int, Packed]],  # first row number and images of consecutive parts of the database
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
