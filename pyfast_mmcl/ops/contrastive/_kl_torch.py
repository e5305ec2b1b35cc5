"""KL between the softmaxes of two similarity matrices, tile by tile in torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._pairs import KLPull, KLSide
from ._tiles import PairSums, excluded, no_autocast, tiles, working


def _new_side(n: int, like: Tensor) -> KLSide:
    s_sum, t_sum, cross = torch.zeros(3, n, dtype=torch.float64, device=like.device)
    s_max, t_max = like.new_full((2, n), -torch.inf)
    return KLSide(s_max, t_max, s_sum, t_sum, cross, torch.ones(n, dtype=torch.bool, device=like.device))


def _finite(top: Tensor) -> Tensor:
    return top.masked_fill(top == -torch.inf, 0)


def _absorb(side: KLSide, where: slice, s: Tensor, t: Tensor, gap: Tensor, dim: int) -> None:
    old_s, old_t = side.s_max[where], side.t_max[where]
    s_max, t_max = torch.maximum(old_s, s.amax(dim)), torch.maximum(old_t, t.amax(dim))
    s_ref, t_ref = _finite(s_max), _finite(t_max)
    shrink = (old_t - t_ref).double().exp()
    total = (s - s_ref.unsqueeze(dim)).exp_().sum(dim, dtype=torch.float64)
    side.s_sum[where] = side.s_sum[where] * (old_s - s_ref).double().exp() + total
    e = (t - t_ref.unsqueeze(dim)).exp_()
    side.t_sum[where] = side.t_sum[where] * shrink + e.sum(dim, dtype=torch.float64)
    side.cross[where] = side.cross[where] * shrink + e.mul_(gap).sum(dim, dtype=torch.float64)
    side.s_max[where], side.t_max[where] = s_max, t_max


def _own(t: Tensor, r: slice, c: slice, shift: int, own: Tensor) -> None:
    # The diagonal entries that lie in this tile, by row of the tile.
    first, last = max(r.start, c.start - shift), min(r.stop, c.stop - shift)
    if first < last:
        i = torch.arange(first, last, device=t.device)
        own[first:last] = t[i - r.start, i + shift - c.start]


def kl_stats(
    sa: Tensor,
    sb: Tensor,
    ta: Tensor,
    tb: Tensor,
    s_scale: Any,
    t_scale: Any,
    *,
    rows: bool = True,
    cols: bool = True,
    exclude_diagonal: bool = False,
    want_right: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    precision: str = "auto",
) -> tuple[KLSide | None, KLSide | None]:
    """See `_pairs.kl_stats`."""
    with no_autocast(sa):
        sa, sb, ta, tb = (working(x, precision) for x in (sa, sb, ta, tb))
        n, m = sa.shape[0], sb.shape[0]
        row, col = _new_side(n, sa) if rows else None, _new_side(m, sa) if cols else None
        shift = row_offset - col_offset
        own = sa.new_full((n,), -torch.inf)
        for r, c in tiles(n, m, sa.dtype):
            s, t = (sa[r] @ sb[c].T).mul_(s_scale), (ta[r] @ tb[c].T).mul_(t_scale)
            gap = t - s
            if want_right:
                _own(t, r, c, shift, own)
            if exclude_diagonal and (out := excluded(r, c, shift, s.device)) is not None:
                for x, value in ((s, -torch.inf), (t, -torch.inf), (gap, 0)):
                    x.masked_fill_(out, value)
            if row is not None:
                _absorb(row, r, s, t, gap, 1)
            if col is not None:
                _absorb(col, c, s, t, gap, 0)
    if want_right:
        _mark_right(row, col, own, shift)
    return row, col


def _mark_right(row: KLSide | None, col: KLSide | None, own: Tensor, shift: int) -> None:
    # "Not larger", so that NaN counts as right and reaches the loss.
    if row is not None:
        row.t_right = ~(row.t_max > own)
    if col is not None:
        entry = torch.full_like(col.t_max, -torch.inf)
        first, last = max(0, -shift), min(own.shape[0], col.t_max.shape[0] - shift)
        if first < last:
            entry[first + shift : last + shift] = own[first:last]
        col.t_right = ~(col.t_max > entry)


def _softmax(x: Tensor, top: Tensor, coef: Tensor, where: slice, dim: int) -> Tensor:
    return (x - _finite(top[where]).unsqueeze(dim)).exp_().mul_(coef[where].unsqueeze(dim))


def _pull(s: Tensor, t: Tensor, side: KLPull, where: slice, dim: int) -> Tensor:
    s_max, s_coef, t_max, t_coef = side
    return _softmax(s, s_max, s_coef, where, dim).sub_(_softmax(t, t_max, t_coef, where, dim))


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
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """See `_pairs.kl_grads`."""
    with no_autocast(sa):
        sa, sb, ta, tb = (working(x, precision) for x in (sa, sb, ta, tb))
        sums = PairSums(sa, sb, need_a, need_b)
        for r, c in tiles(sa.shape[0], sb.shape[0], sa.dtype):
            dots = sa[r] @ sb[c].T
            s, t = dots * s_scale, (ta[r] @ tb[c].T).mul_(t_scale)
            if exclude_diagonal and (out := excluded(r, c, row_offset - col_offset, s.device)) is not None:
                s.masked_fill_(out, -torch.inf)
                t.masked_fill_(out, -torch.inf)
            ds = _pull(s, t, row, r, 1) if row is not None else torch.zeros_like(s)
            if col is not None:
                ds += _pull(s, t, col, c, 0)
            sums.add(r, c, ds, dots)
        return sums.finish(s_scale)
