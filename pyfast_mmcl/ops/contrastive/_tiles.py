"""What the tiled torch kernels share: how tiles are cut, what is left out of them, where their products go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_TILE = {torch.float32: 1024, torch.float64: 768}


def working(x: Tensor, precision: str) -> Tensor:
    """``x`` as float32 (float64 stays), rounded to bfloat16 first where the caller asked for such tiles."""
    if x.dtype == torch.float64:
        return x
    return (x.bfloat16() if precision == "bfloat16" else x).float()


def tiles(n: int, m: int, dtype: torch.dtype, symmetric: bool = False) -> Iterator[tuple[slice, slice]]:
    """Row and column slices of every tile; ``symmetric``: only those on and above the diagonal."""
    size = _TILE[dtype]
    for r in range(0, n, size):
        for c in range(r if symmetric else 0, m, size):
            yield slice(r, min(r + size, n)), slice(c, min(c + size, m))


def excluded(r: slice, c: slice, shift: int, device: torch.device) -> Tensor | None:
    """Mask of the pairs with i + shift = j in this tile, or None where it has none."""
    if r.stop + shift <= c.start or c.stop <= r.start + shift:
        return None
    rows = torch.arange(r.start + shift, r.stop + shift, device=device)
    return rows[:, None] == torch.arange(c.start, c.stop, device=device)


def no_autocast(x: Tensor) -> Any:
    """Autocast off: under it, the products of float32 rows would be rounded to bfloat16."""
    return torch.autocast(x.device.type, enabled=False)


class PairSums:
    """Running da, db and dscale over tiles of dS, without the factor ``scale`` until the end."""

    def __init__(self, a: Tensor, b: Tensor, need_a: bool, need_b: bool) -> None:
        self.a, self.b = a, b
        self.da = torch.zeros_like(a, memory_format=torch.contiguous_format) if need_a else None
        self.db = torch.zeros_like(b, memory_format=torch.contiguous_format) if need_b else None
        self.dscale = torch.zeros((), dtype=torch.float64, device=a.device)

    def add(self, r: slice, c: slice, ds: Tensor, dots: Tensor, share: float = 1.0) -> None:
        """One tile of dS; ``share``: how much of it counts for dscale where that is summed over pairs."""
        if self.da is not None:
            self.da[r].addmm_(ds, self.b[c])
        if self.db is not None:
            self.db[c].addmm_(ds.T, self.a[r])
        if self.da is None and self.db is None:
            self.dscale += share * (ds * dots).sum(dtype=torch.float64)

    def add_mirrored(self, r: slice, c: slice, ds: Tensor) -> None:
        """The same tile below the diagonal of a symmetric dS."""
        if self.da is not None:
            self.da[c].addmm_(ds.T, self.a[r])

    def finish(self, scale: Any, share: float = 1.0) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Gradients with their factor; dscale = ``share``·Σ_i ⟨a_i, da_i⟩ costs O(N·D) where a gradient exists."""
        if self.da is not None:
            self.dscale = (self.a * self.da).sum(dtype=torch.float64) * share
        elif self.db is not None:
            self.dscale = (self.b * self.db).sum(dtype=torch.float64) * share
        da = self.da.mul_(scale) if self.da is not None else None
        db = self.db.mul_(scale) if self.db is not None else None
        return da, db, self.dscale
