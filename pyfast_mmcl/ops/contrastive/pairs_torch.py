"""The pair primitives in torch, one tile at a time: any device, any float type, the fallback and the middle reference.

A tile is at most 4 to 5 MiB and at most three of them live at once. Products follow torch's own matrix product: its
precision settings (TF32) and its order of addition.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._kl_torch import kl_grads, kl_stats
from ._pairs import Pull, Side
from ._tiles import PairSums, excluded, no_autocast, tiles, working

__all__ = ["kl_grads", "kl_stats", "pair_grads", "pair_stats", "siglip_pass"]


def new_side(n: int, like: Tensor) -> Side:
    """Statistics of ``n`` rows before the first tile."""
    zeros = torch.zeros(2, n, dtype=torch.float64, device=like.device)
    return Side(like.new_full((n,), -torch.inf), zeros[0], zeros[1])


def _absorb(side: Side, where: slice, s: Tensor, positive: Tensor, dim: int) -> None:
    old = side.max[where]
    top = torch.maximum(old, s.amax(dim))
    reference = top.masked_fill(top == -torch.inf, 0)
    total = (s - reference.unsqueeze(dim)).exp_().sum(dim, dtype=torch.float64)
    side.sum[where] = side.sum[where] * (old - reference).double().exp() + total
    side.max[where] = top
    side.pos[where] += torch.where(positive, s, 0).sum(dim, dtype=torch.float64)


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
) -> tuple[Side | None, Side | None]:
    """See `_pairs.pair_stats`."""
    with no_autocast(a):
        a, b = working(a, precision), working(b, precision)
        row = new_side(a.shape[0], a) if rows or symmetric else None
        col = new_side(b.shape[0], b) if cols and not symmetric else None
        for r, c in tiles(a.shape[0], b.shape[0], a.dtype, symmetric):
            s = (a[r] @ b[c].T).mul_(scale)
            positive = row_ids[r, None] == col_ids[c]
            if exclude_self and (out := excluded(r, c, row_offset - col_offset, a.device)) is not None:
                s.masked_fill_(out, -torch.inf)
                positive &= ~out
            if row is not None:
                _absorb(row, r, s, positive, 1)
            if col is not None:
                _absorb(col, c, s, positive, 0)
            elif symmetric and r != c:
                _absorb(row, c, s, positive, 0)  # type: ignore[arg-type]
    return row, col


def _pull(s: Tensor, side: Pull, where: slice, positive: Tensor, dim: int) -> Tensor:
    top = side.max[where]
    p = (s - top.masked_fill(top == -torch.inf, 0).unsqueeze(dim)).exp_().mul_(side.coef[where].unsqueeze(dim))
    return p.sub_(torch.where(positive, side.pos[where].unsqueeze(dim), 0))


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
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """See `_pairs.pair_grads`."""
    with no_autocast(a):
        a, b = working(a, precision), working(b, precision)
        sums = PairSums(a, b, need_a, need_b and not symmetric)
        col = row if symmetric else col
        for r, c in tiles(a.shape[0], b.shape[0], a.dtype, symmetric):
            dots = a[r] @ b[c].T
            s = dots * scale
            positive = row_ids[r, None] == col_ids[c]
            if exclude_self and (out := excluded(r, c, row_offset - col_offset, a.device)) is not None:
                s.masked_fill_(out, -torch.inf)
                positive &= ~out
            ds = _pull(s, row, r, positive, 1) if row is not None else torch.zeros_like(s)
            if col is not None:
                ds += _pull(s, col, c, positive, 0)
            sums.add(r, c, ds, dots, share=0.5 if symmetric and r == c else 1.0)
            if symmetric and r != c:
                sums.add_mirrored(r, c, ds)
        return sums.finish(scale, share=0.5 if symmetric else 1.0)


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
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """See `_pairs.siglip_pass`."""
    with no_autocast(a):
        a, b = working(a, precision), working(b, precision)
        sums = PairSums(a, b, need_a, need_b)
        loss = torch.zeros((), dtype=torch.float64, device=a.device)
        dbias = torch.zeros_like(loss)
        for r, c in tiles(a.shape[0], b.shape[0], a.dtype):
            dots = a[r] @ b[c].T
            y = torch.where(row_ids[r, None] == col_ids[c], 1.0, -1.0).to(a.dtype)
            z = (dots * scale).add_(bias).mul_(y)
            loss -= F.logsigmoid(z).sum(dtype=torch.float64)
            ds = z.neg_().sigmoid_().mul_(y.neg_())
            dbias += ds.sum(dtype=torch.float64)
            sums.add(r, c, ds, dots)
        return loss, *sums.finish(scale), dbias
