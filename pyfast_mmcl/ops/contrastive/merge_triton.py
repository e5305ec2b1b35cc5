"""Row or column statistics from those of single tiles, added up in the order of the tiles.

While tiles come, the state of a row is (largest exponent m, Σ 2**(t − m), Σ of positive x) with t in powers of two.
The last merge turns it into natural logarithms and moves the reference to the log-sum-exp itself: the sum is then 1 up
to the rounding of the reference, and every exponential that a gradient takes is a probability.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._pairs import Side
from .tile_triton import LN2, LOG2E, TINY, on_device


@triton.jit
def exponent_of_scale(scale_ptr):
    # The factor of |x| in powers of two, rounded the same way wherever it is used.
    factor = tl.abs(tl.load(scale_ptr)) * LOG2E
    return tl.where(factor < TINY, TINY, factor)


@triton.jit
def finite(m):
    # A row in which nothing is has the maximum −inf; any other reference avoids −inf − −inf.
    return tl.where(m == float("-inf"), 0.0, m)


@triton.jit
def natural(m, amount):
    # (m, Σ 2**(t − m)) → a float32 reference near the natural log-sum-exp and what the float64 sum is around it.
    exponent = finite(m).to(tl.float64) + tl.log2(tl.where(amount > 0, amount, 1.0))
    reference = tl.where(m == float("-inf"), m, (exponent * LN2).to(tl.float32))
    return reference, finite(m).to(tl.float64) - finite(reference).to(tl.float64) * LOG2E


@triton.jit(
    do_not_specialize=["stride", "P", "L", "known", "done"],
    # Only full tensors start at a multiple of 16 bytes, not the rows from some strip on.
    do_not_specialize_on_alignment=["part_ptr", "max_ptr", "sum_ptr", "scale_ptr"],
)
def merge_kernel(
    part_ptr,  # [3, P, L] float32: m, Σ 2**(t − m), Σ of positive x
    max_ptr,  # [L] float32
    sum_ptr,  # [2, L] float64: sum, pos
    stride,  # of the planes of sum_ptr
    scale_ptr,
    P,
    L,
    known,  # lanes before it have an earlier state
    done,  # lanes before it are finished
    BLOCK_P: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    lane = tl.program_id(0) * BLOCK_L + tl.arange(0, BLOCK_L)
    live = lane < L
    seen = live & (lane < known)
    top = tl.load(max_ptr + lane, mask=seen, other=float("-inf"))
    amount = tl.load(sum_ptr + lane, mask=seen, other=0.0)
    positive = tl.load(sum_ptr + stride + lane, mask=seen, other=0.0)
    plane = P.to(tl.int64) * L
    for start in range(0, P, BLOCK_P):
        slot = start + tl.arange(0, BLOCK_P)
        inside = (slot < P)[:, None] & live[None, :]
        at = part_ptr + slot.to(tl.int64)[:, None] * L + lane[None, :]
        m = tl.load(at, mask=inside, other=float("-inf"))
        e = tl.load(at + plane, mask=inside, other=0.0)
        x = tl.load(at + 2 * plane, mask=inside, other=0.0)
        best = tl.maximum(top, tl.max(m, 0))
        shift = finite(best)
        amount = amount * tl.exp2(top - shift).to(tl.float64)
        amount += tl.sum(e.to(tl.float64) * tl.exp2(m - shift[None, :]).to(tl.float64), 0)
        positive += tl.sum(x.to(tl.float64), 0)
        top = best
    unit = exponent_of_scale(scale_ptr).to(tl.float64) * LN2
    reference, rest = natural(top, amount)
    positive = tl.where(lane < done, positive * unit, positive)
    amount = tl.where(lane < done, amount * tl.exp2(rest), amount)
    top = tl.where(lane < done, reference, top)
    tl.store(max_ptr + lane, top, mask=live)
    tl.store(sum_ptr + lane, amount, mask=live)
    tl.store(sum_ptr + stride + lane, positive, mask=live)


class Merge:
    """The statistics of ``n`` rows (or columns) while tiles come."""

    def __init__(self, n: int, scale: Tensor) -> None:
        self.scale = scale
        self.max = torch.empty(n, dtype=torch.float32, device=scale.device)
        self.sums = torch.empty(2, n, dtype=torch.float64, device=scale.device)
        self.begun = 0

    def add(self, part: Tensor, first: int, done: int) -> None:
        """Tiles of the rows from ``first`` on, ``part`` [3, P, L]; the first ``done`` of them are then finished."""
        P, L = part.shape[1:]
        known = max(0, self.begun - first)
        self.begun = max(self.begun, first + L)
        with on_device(part.device):
            merge_kernel[(triton.cdiv(L, 32),)](
                part,
                self.max[first:],
                self.sums[:, first:],
                self.sums.stride(0),
                self.scale,
                P,
                L,
                known,
                done,
                BLOCK_P=16,
                BLOCK_L=32,
                num_warps=4,
            )

    def side(self) -> Side:
        return Side(self.max, self.sums[0], self.sums[1])


def empty_side(n: int, device: torch.device) -> Side:
    """Statistics of rows in which nothing is."""
    sums = torch.zeros(2, n, dtype=torch.float64, device=device)
    return Side(torch.full((n,), -torch.inf, dtype=torch.float32, device=device), sums[0], sums[1])
