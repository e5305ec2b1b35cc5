"""Row or column sums of student and teacher from those of single tiles, added up in the order of the tiles."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._pairs import KLSide
from .merge_triton import finite, natural
from .tile_triton import LN2, on_device


@triton.jit(do_not_specialize=["P", "L", "known", "done"])
def kl_merge_kernel(
    part_ptr,  # [5, P, L] float32: s reference, s sum, t reference, t sum, cross
    max_ptr,  # [3, L] float32: s reference, t reference, largest t in powers of two
    sum_ptr,  # [3, L] float64: s sum, t sum, cross
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
    plane, line = P.to(tl.int64) * L, L.to(tl.int64)
    s_top = tl.load(max_ptr + lane, mask=seen, other=float("-inf"))
    t_top = tl.load(max_ptr + line + lane, mask=seen, other=float("-inf"))
    s_sum = tl.load(sum_ptr + lane, mask=seen, other=0.0)
    t_sum = tl.load(sum_ptr + line + lane, mask=seen, other=0.0)
    cross = tl.load(sum_ptr + 2 * line + lane, mask=seen, other=0.0)
    for start in range(0, P, BLOCK_P):
        slot = start + tl.arange(0, BLOCK_P)
        inside = (slot < P)[:, None] & live[None, :]
        at = part_ptr + slot.to(tl.int64)[:, None] * L + lane[None, :]
        m = tl.load(at, mask=inside, other=float("-inf"))
        best = tl.maximum(s_top, tl.max(m, 0))
        share = tl.exp2(m - finite(best)[None, :]).to(tl.float64)
        s_sum = s_sum * tl.exp2(s_top - finite(best)).to(tl.float64)
        s_sum += tl.sum(tl.load(at + plane, mask=inside, other=0.0).to(tl.float64) * share, 0)
        s_top = best
        m = tl.load(at + 2 * plane, mask=inside, other=float("-inf"))
        best = tl.maximum(t_top, tl.max(m, 0))
        share = tl.exp2(m - finite(best)[None, :]).to(tl.float64)
        old = tl.exp2(t_top - finite(best)).to(tl.float64)
        t_sum = t_sum * old + tl.sum(tl.load(at + 3 * plane, mask=inside, other=0.0).to(tl.float64) * share, 0)
        cross = cross * old + tl.sum(tl.load(at + 4 * plane, mask=inside, other=0.0).to(tl.float64) * share, 0)
        t_top = best
    s_reference, s_rest = natural(s_top, s_sum)
    t_reference, t_rest = natural(t_top, t_sum)
    last = lane < done
    tl.store(max_ptr + 2 * line + lane, t_top, mask=live)
    tl.store(max_ptr + lane, tl.where(last, s_reference, s_top), mask=live)
    tl.store(max_ptr + line + lane, tl.where(last, t_reference, t_top), mask=live)
    tl.store(sum_ptr + lane, tl.where(last, s_sum * tl.exp2(s_rest), s_sum), mask=live)
    tl.store(sum_ptr + line + lane, tl.where(last, t_sum * tl.exp2(t_rest), t_sum), mask=live)
    tl.store(sum_ptr + 2 * line + lane, tl.where(last, cross * tl.exp2(t_rest) * LN2, cross), mask=live)


class KLMerge:
    """The statistics of ``n`` rows (or columns) while tiles come; of rows, every launch brings others."""

    def __init__(self, n: int, device: torch.device) -> None:
        self.max = torch.empty(3, n, dtype=torch.float32, device=device)
        self.sums = torch.empty(3, n, dtype=torch.float64, device=device)

    def add(self, part: Tensor, *, known: bool, done: bool) -> KLMerge:
        """Tiles of all these rows, ``part`` [5, P, n]; whether earlier ones came and whether more will."""
        P, L = part.shape[1:]
        with on_device(part.device):
            kl_merge_kernel[(triton.cdiv(L, 32),)](
                part,
                self.max,
                self.sums,
                P,
                L,
                L if known else 0,
                L if done else 0,
                BLOCK_P=16,
                BLOCK_L=32,
                num_warps=4,
            )
        return self


def kl_side(parts: list[KLMerge], own: Tensor) -> KLSide:
    """The finished side, rows of several launches in order. ``own``: the exponent of each row's true pair."""
    maxima = parts[0].max if len(parts) == 1 else torch.cat([p.max for p in parts], dim=1)
    sums = parts[0].sums if len(parts) == 1 else torch.cat([p.sums for p in parts], dim=1)
    # "Not larger", so that NaN counts as right and reaches the loss.
    return KLSide(maxima[0], maxima[1], sums[0], sums[1], sums[2], ~(maxima[2] > own))


def empty_kl_side(n: int, device: torch.device) -> KLSide:
    """Statistics of rows in which nothing is."""
    top = torch.full((2, n), -torch.inf, dtype=torch.float32, device=device)
    sums = torch.zeros(3, n, dtype=torch.float64, device=device)
    return KLSide(top[0], top[1], sums[0], sums[1], sums[2], torch.ones(n, dtype=torch.bool, device=device))
