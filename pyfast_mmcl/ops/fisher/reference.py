"""The outer-product–square–accumulate in plain torch: the truth of the op and its fallback."""

from __future__ import annotations

from torch import Tensor

# Floats of per-sample gradient that are alive at once: small enough for a shared cache.
TILE = 1 << 18


def outer_square_reference(out: Tensor, g: Tensor, a: Tensor, absolute: bool) -> Tensor:
    """``out [O, I] += Σ_b (g_bᵀ a_b)²`` (|·| with ``absolute``), in the precision of ``out``; g, a 2-D or 3-D."""
    if g.ndim == 3 and g.shape[1] == 1:
        g, a = g[:, 0], a[:, 0]
    if g.ndim == 2:
        return out.addmm_(_power(g, out, absolute).t(), _power(a, out, absolute))
    if out.numel() >= TILE // 4:
        return _sample_by_sample(out, g, a, absolute)
    step = max(1, TILE // max(1, out.numel()))
    for start in range(0, g.shape[0], step):
        rows = slice(start, start + step)
        product = g[rows].to(out.dtype).mT @ a[rows].to(out.dtype)
        out += (product.abs_() if absolute else product.square_()).sum(0)
    return out


def _power(x: Tensor, out: Tensor, absolute: bool) -> Tensor:
    x = x.to(out.dtype)
    return x.abs() if absolute else x.square()


def _sample_by_sample(out: Tensor, g: Tensor, a: Tensor, absolute: bool) -> Tensor:
    """One product at a time: its tile stays in cache until it is squared."""
    product = out.new_empty(out.shape)
    for g_b, a_b in zip(g, a, strict=True):
        product.addmm_(g_b.to(out.dtype).t(), a_b.to(out.dtype), beta=0)
        if absolute:
            out += product.abs_()
        else:
            out.addcmul_(product, product)
    return out
