"""Convolutions: a linear map of image patches; the positions of the output are the sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..calls import Call
from ..contributions import Contribution, Dense, Outer
from ..outer import outer_square_accumulate
from ..shared import Shared

Parts = list[tuple[Shared, Contribution]]

# Floats of patches that are alive at once.
BUDGET = 1 << 21
# Per-sample gradients of a group so small are formed for all samples at once.
SMALL = 256


@dataclass
class Patches:
    """``G_b = Σ_s g_s ⊗ patch_s`` per group.

    x [B, k, C, *spatial] padded, g [B, k, O, *positions], weight of shape [O, C/G, *K]
    """

    g: Tensor
    x: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def samples(self) -> int:
        return self.g.shape[0]

    def pairs(self, rows: slice) -> tuple[Tensor, Tensor]:
        """g [b, G, O/G, S] and patches [b, G, I, S] of some samples."""
        x, g = self.x[rows], self.g[rows]
        patches = windows(x, self.shape[2:], self.stride, self.dilation, g.shape[3:])
        b, k = g.shape[:2]
        patches = patches.reshape(b, k, self.groups, self.shape[1:].numel(), -1)
        g = g.reshape(b, k, self.groups, self.shape[0] // self.groups, -1)
        if k == 1:
            return g[:, 0], patches[:, 0]
        return tuple(t.permute(0, 2, 3, 1, 4).flatten(3) for t in (g, patches))

    def _steps(self) -> Iterator[slice]:
        floats = self.x.shape[1] * self.shape[1:].numel() * self.groups * math.prod(self.g.shape[3:])
        step = max(1, BUDGET // max(1, floats))
        for start in range(0, self.samples, step):
            yield slice(start, start + step)

    def square_into(self, out: Tensor, absolute: bool, backend: str) -> None:
        matrix = out.reshape(self.groups, self.shape[0] // self.groups, -1)
        small = matrix[0].numel() <= SMALL and self.groups > 1
        for rows in self._steps():
            g, a = self.pairs(rows)
            if small:
                product = g.to(out.dtype) @ a.to(out.dtype).mT
                matrix += (product.abs_() if absolute else product.square_()).sum(0)
                continue
            for i in range(self.groups):
                pair = (g[:, i, :, 0], a[:, i, :, 0]) if g.shape[3] == 1 else (g[:, i].mT, a[:, i].mT)
                outer_square_accumulate(matrix[i], *pair, absolute=absolute, backend=backend)
        if matrix.data_ptr() != out.data_ptr():
            out.copy_(matrix.view(out.shape))

    def dense(self, rows: slice, dtype: torch.dtype) -> Tensor:
        g, a = self.pairs(rows)
        return (g.to(dtype) @ a.to(dtype).mT).reshape(-1, *self.shape)

    def norms(self, dtype: torch.dtype) -> Tensor:
        found = []
        for rows in self._steps():
            g, a = self.pairs(rows)
            b = g.shape[0]
            flat = Outer(g.flatten(0, 1).mT, a.flatten(0, 1).mT, torch.Size((g.shape[2], a.shape[2])))
            found.append(flat.norms(dtype).view(b, -1).sum(1))
        return torch.cat(found)


def windows(x: Tensor, kernel: torch.Size, stride: tuple, dilation: tuple, positions: torch.Size) -> Tensor:
    """The patches of ``x [B, k, C, *spatial]`` as a view [B, k, C, *kernel, *positions]."""
    lead, steps = x.stride()[:3], x.stride()[3:]
    size = (*x.shape[:3], *kernel, *positions)
    inner = [s * d for s, d in zip(steps, dilation, strict=True)]
    outer = [s * t for s, t in zip(steps, stride, strict=True)]
    return x.as_strided(size, (*lead, *inner, *outer), x.storage_offset())


def convolution(call: Call, grads: list[Tensor | None]) -> Parts | None:
    """conv1d, conv2d, conv3d with stride, padding, dilation and groups."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    x, weight, bias, stride, padding, dilation, groups = call.bind(*names)
    if x.ndim != weight.ndim or call.target(x) is not None:
        return None
    g, rows = call.out_rows(grads[0]), call.rows(x)
    if rows is None:
        return None
    parts: Parts = []
    if (target := call.target(weight)) is not None:
        n = weight.ndim - 2
        stride, dilation = _each(stride, n, 1), _each(dilation, n, 1)
        padded = _pad(rows, padding, weight.shape[2:], dilation)
        parts.append((target, Patches(g, padded, weight.shape, stride, dilation, groups or 1)))
    if bias is not None and (target := call.target(bias)) is not None:
        wide = g if g.dtype == torch.float64 else g.float()
        parts.append((target, Dense(wide.sum([1, *range(3, g.ndim)]))))
    return parts


def _each(value: object, n: int, default: int) -> tuple[int, ...]:
    if value is None:
        return (default,) * n
    if isinstance(value, int):
        return (value,) * n
    return tuple(value) if len(value) == n else tuple(value) * n


def _pad(x: Tensor, padding: object, kernel: torch.Size, dilation: tuple[int, ...]) -> Tensor:
    """``x`` with its zeros around it, both sides as torch lays them for "same"."""
    n = len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        sides = [(t // 2, t - t // 2) for t in totals]
    else:
        sides = [(p, p) for p in _each(0 if padding == "valid" else padding, n, 0)]
    if not any(map(sum, sides)):
        return x
    return F.pad(x, [p for side in reversed(sides) for p in side])
