"""dS of one tile from the softmaxes of its rows and columns; dS never leaves the kernel unrounded, nor whole.

A pull is (reference m, coefficient r): it gives r_i·2**(x·c − m_i). With row and column pulls one exponential serves
both: c_j·2**(x·c − n_j) = 2**(x·c − m_i)·u_i·v_j, u_i = 2**(m_i − top), v_j = c_j·2**(top − n_j), unless the references
of a tile lie so far apart that the shared factor would vanish where the column's share does not.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .merge_triton import finite
from .tile_triton import LOG2E, SHARED_SPAN, crosses_diagonal

# One number per row or column: a kernel that relied on where such a tensor starts would be compiled again for others.
_SIDES = [f"{side}_{name}_ptr" for side in ("row", "column") for name in ("id", "max", "coef", "pos")]
VECTORS = [*_SIDES, "scale_ptr"]


@triton.jit
def factors(scale_ptr, gain_ptr):
    # Factor of s in powers of two, and the factor that gradients contain. A scale of 0 is left to `store_scaled`.
    scale = tl.load(scale_ptr)
    return scale * LOG2E, tl.where(scale == 0.0, 1.0, scale) * tl.load(gain_ptr)


@triton.jit
def reference(max_ptr, coef_ptr, at, size, factor, GIVEN: tl.constexpr):
    # A side's reference in powers of two and its coefficient, which takes what the reference lost in rounding.
    m, coef = tl.zeros_like(at).to(tl.float32), tl.zeros_like(at).to(tl.float32)
    if GIVEN:
        exact = finite(tl.load(max_ptr + tl.minimum(at, size - 1))).to(tl.float64) * LOG2E
        m = exact.to(tl.float32)
        coef = tl.load(coef_ptr + at, mask=at < size, other=0.0) * factor
        coef = coef * tl.exp2((m.to(tl.float64) - exact).to(tl.float32))
    return m, coef


@triton.jit
def near_references(m, max_ptr, columns, M, BOTH: tl.constexpr):
    # The largest row reference of a tile, and whether its columns' references lie within reach of it.
    top = tl.max(m, 0)
    close = top == top
    if BOTH:
        n = finite(tl.load(max_ptr + tl.minimum(columns, M - 1))) * LOG2E
        close = top - tl.min(n, 0) <= SHARED_SPAN
    return top, close


@triton.jit
def softmax_pull(x, exponent, m, r, n, c, top, close, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    # r_i·2**(x·exponent − m_i) + c_j·2**(x·exponent − n_j) over [rows, columns].
    if ROWS and COLUMNS:
        u = tl.exp2(m - top)
        v = tl.exp2(top - n) * c
        g = tl.exp2(tl.fma(x, exponent, -m[:, None])) * (u[:, None] * v[None, :] + r[:, None])
        # Overwritten, not chosen before: what both ways need of the rows is then prepared once per tile.
        if not close:
            g = tl.exp2(tl.fma(x, exponent, -m[:, None])) * r[:, None]
            g += tl.exp2(tl.fma(x, exponent, -n[None, :])) * c[None, :]
    elif ROWS:
        g = tl.exp2(tl.fma(x, exponent, -m[:, None])) * r[:, None]
    else:
        g = tl.exp2(tl.fma(x, exponent, -n[None, :])) * c[None, :]
    return g


@triton.jit
def drop_missing(g, row, column, end, M, shift, EXCLUDE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    # Zero where there is no pair or an excluded one; the piece starts at (row, column).
    rows, columns = row + tl.arange(0, HEIGHT), column + tl.arange(0, WIDTH)
    if (row + HEIGHT > end) | (column + WIDTH > M):
        g = tl.where((rows < end)[:, None] & (columns < M)[None, :], g, 0.0)
    if EXCLUDE:
        if crosses_diagonal(row, column, shift, HEIGHT, WIDTH):
            g = tl.where(rows[:, None] + shift == columns[None, :], 0.0, g)
    return g


@triton.jit
def pair_pull(
    x,  # [HEIGHT, WIDTH]
    exponent,
    m,  # [HEIGHT] row pull
    r,
    row_positive,  # [HEIGHT] what a positive pair takes away, from the row's side
    top,  # of near_references
    close,
    row_id,
    meet,  # whether some pair of the tile may be positive
    row,  # first row
    row_end,
    column_max_ptr,
    column_coef_ptr,
    column_pos_ptr,
    column_id_ptr,
    column,  # first column
    M,
    shift,
    factor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUDE: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    # dS·factor of some columns of a tile.
    columns = column + tl.arange(0, WIDTH)
    n, c = reference(column_max_ptr, column_coef_ptr, columns, M, factor, COLUMNS)
    g = softmax_pull(x, exponent, m, r, n, c, top, close, ROWS, COLUMNS)
    if meet:
        column_id = tl.load(column_id_ptr + tl.minimum(columns, M - 1))
        away = tl.zeros_like(g)
        if ROWS:
            away += row_positive[:, None]
        if COLUMNS:
            away += (tl.load(column_pos_ptr + columns, mask=columns < M, other=0.0) * factor)[None, :]
        g -= tl.where(row_id[:, None] == column_id[None, :], away, 0.0)
    return drop_missing(g, row, column, row_end, M, shift, EXCLUDE, HEIGHT, WIDTH)


@triton.jit
def store_scaled(ptrs, g, scale_ptr):
    # The gradient of a row contains the factor scale; only 0 could not be part of the coefficients.
    if tl.load(scale_ptr) == 0.0:
        g = tl.zeros_like(g)
    tl.store(ptrs, g.to(ptrs.dtype.element_ty))


def gain(dtype: torch.dtype, scale: Tensor, *bounds: Tensor) -> Tensor:
    """A power of two by which dS is multiplied before it is rounded: 1, except for float16, whose range is narrow.

    The largest value stays below 2**15 while probabilities down to some 2**−28 of it stay normal numbers.
    """
    one = torch.ones(1, dtype=torch.float32, device=scale.device)
    if dtype != torch.float16:
        return one
    bound = torch.stack([b.detach().abs().amax().float() for b in bounds if b.numel()]).sum()
    exponent = torch.floor(14 - torch.log2(scale.abs().clamp_min(2.0**-30) * bound.clamp_min(2.0**-60)))
    return torch.exp2(exponent.clamp(-60, 60)).reshape(1)
