"""Convolutions: a linear map of image patches; the positions of the output are the sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _dispatch
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
class Geometry:
    """One convolution: weight shape [O, C/G, *K] and one number per spatial dimension for each of the rest."""

    shape: torch.Size
    stride: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]  # zeros before and behind
    dilation: tuple[int, ...]
    groups: int

    def taps(self, sizes: torch.Size, positions: torch.Size) -> tuple[slice, ...]:
        """The part of the kernel that meets the image at all; the rest sees padding only."""
        found = []
        for d, (size, count) in enumerate(zip(sizes, positions, strict=True)):
            reach = range(self.shape[2 + d])
            met = [i for i in reach if any(0 <= self._place(d, i, p) < size for p in range(count))]
            found.append(slice(met[0], met[-1] + 1) if met else slice(0, 0))
        return tuple(found)

    def _place(self, dim: int, tap: int, position: int) -> int:
        return position * self.stride[dim] + tap * self.dilation[dim] - self.sides[dim][0]


@dataclass
class Patches:
    """``G_b = Σ_s g_s ⊗ patch_s`` per group. x [B, k, C, *spatial], g [B, k, O, *positions]."""

    g: Tensor
    x: Tensor
    conv: Geometry

    @property
    def samples(self) -> int:
        return self.g.shape[0]

    def square_into(self, out: Tensor, absolute: bool, backend: str) -> None:
        if self._native(out, backend):
            padding = [before for before, _ in self.conv.sides]
            pair = self.g[:, 0], self.x[:, 0]
            _dispatch.run_conv(out, *pair, self.conv.stride, padding, self.conv.dilation, self.conv.groups, absolute)
        else:
            self._unfolded(out, absolute, backend)

    def _native(self, out: Tensor, backend: str) -> bool:
        """Whether the compiled convolution serves: not for one position (a GEMM of squares), nor for tiny groups."""
        possible = self.g.shape[1] == 1 and all(a == b for a, b in self.conv.sides)
        wanted = math.prod(self.g.shape[3:]) > 1 and not self._tiny
        return possible and wanted and backend in ("auto", "native") and _dispatch.native_usable(out, self.g, self.x)[0]

    @property
    def _tiny(self) -> bool:
        shape, groups = self.conv.shape, self.conv.groups
        return groups > 1 and shape.numel() // groups <= SMALL

    def _unfolded(self, out: Tensor, absolute: bool, backend: str) -> None:
        taps = self.conv.taps(self.x.shape[3:], self.g.shape[3:])
        part = out[(slice(None), slice(None), *taps)]
        matrix = part.reshape(self.conv.groups, self.conv.shape[0] // self.conv.groups, -1)
        for g, a in self._pairs(taps):
            if self._tiny:
                product = g.to(out.dtype) @ a.to(out.dtype).mT
                matrix += (product.abs_() if absolute else product.square_()).sum(0)
                continue
            for i in range(self.conv.groups):
                pair = (g[:, i, :, 0], a[:, i, :, 0]) if g.shape[3] == 1 else (g[:, i].mT, a[:, i].mT)
                outer_square_accumulate(matrix[i], *pair, absolute=absolute, backend=backend)
        if matrix.data_ptr() != part.data_ptr():
            part.copy_(matrix.view(part.shape))

    def dense(self, rows: slice, dtype: torch.dtype) -> Tensor:
        taps = tuple(slice(0, k) for k in self.conv.shape[2:])
        g, a = self._pair(rows, self._padded(rows), taps)
        return (g.to(dtype) @ a.to(dtype).mT).reshape(-1, *self.conv.shape)

    def norms(self, dtype: torch.dtype) -> Tensor:
        found = []
        for g, a in self._pairs(self.conv.taps(self.x.shape[3:], self.g.shape[3:])):
            flat = Outer(g.flatten(0, 1).mT, a.flatten(0, 1).mT, torch.Size((g.shape[2], a.shape[2])))
            found.append(flat.norms(dtype).view(len(g), -1).sum(1))
        return torch.cat(found)

    def _pairs(self, taps: tuple[slice, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """`_pair` of as many samples as the budget allows, one after the other."""
        inputs = self.conv.shape[1] * math.prod(t.stop - t.start for t in taps)
        floats = self.x.shape[1] * inputs * self.conv.groups * math.prod(self.g.shape[3:])
        step = max(1, BUDGET // max(1, floats))
        for start in range(0, self.samples, step):
            rows = slice(start, start + step)
            yield self._pair(rows, self._padded(rows), taps)

    def _padded(self, rows: slice) -> Tensor:
        x = self.x[rows]
        return (
            F.pad(x, [p for side in reversed(self.conv.sides) for p in side]) if any(map(sum, self.conv.sides)) else x
        )

    def _pair(self, rows: slice, x: Tensor, taps: tuple[slice, ...]) -> tuple[Tensor, Tensor]:
        """g [b, G, O/G, S] and patches [b, G, I, S], with S the positions of all k images of a sample."""
        g, conv = self.g[rows], self.conv
        patches = windows(x, taps, conv.stride, conv.dilation, g.shape[3:])
        b, k = g.shape[:2]
        inputs = conv.shape[1] * math.prod(t.stop - t.start for t in taps)
        patches = patches.reshape(b, k, conv.groups, inputs, math.prod(g.shape[3:]))
        g = g.reshape(b, k, conv.groups, conv.shape[0] // conv.groups, math.prod(g.shape[3:]))
        if k == 1:
            return g[:, 0], patches[:, 0]
        return g.permute(0, 2, 3, 1, 4).flatten(3), patches.permute(0, 2, 3, 1, 4).flatten(3)


def windows(x: Tensor, taps: tuple[slice, ...], stride: tuple, dilation: tuple, positions: torch.Size) -> Tensor:
    """The patches of ``x [B, k, C, *spatial]`` as a view [B, k, C, *taps, *positions]."""
    lead, steps = x.stride()[:3], x.stride()[3:]
    inner = [s * d for s, d in zip(steps, dilation, strict=True)]
    outer = [s * t for s, t in zip(steps, stride, strict=True)]
    size = (*x.shape[:3], *(t.stop - t.start for t in taps), *positions)
    offset = x.storage_offset() + sum(t.start * s for t, s in zip(taps, inner, strict=True))
    return x.as_strided(size, (*lead, *inner, *outer), offset)


def convolution(call: Call, grads: list[Tensor]) -> Parts | None:
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
        dilation = _each(dilation, n, 1)
        sides = _sides(padding, weight.shape[2:], dilation)
        parts.append(
            (target, Patches(g, rows, Geometry(weight.shape, _each(stride, n, 1), sides, dilation, groups or 1)))
        )
    if bias is not None and (target := call.target(bias)) is not None:
        wide = g if g.dtype == torch.float64 else g.float()
        parts.append((target, Dense(wide.sum([1, *range(3, g.ndim)]))))
    return parts


def transposed_convolution(call: Call, grads: list[Tensor]) -> Parts | None:
    """conv_transpose1d, 2d and 3d: a convolution of the output's gradient, whose result is the input."""
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    x, weight, bias, stride, padding, _, groups, dilation = call.bind(*names)
    if x.ndim != weight.ndim or call.target(x) is not None:
        return None
    g, rows = call.out_rows(grads[0]), call.rows(x)
    if rows is None:
        return None
    parts: Parts = []
    if (target := call.target(weight)) is not None:
        n = weight.ndim - 2
        dilation = _each(dilation, n, 1)
        sides = _sides(0 if padding is None else padding, weight.shape[2:], dilation)
        conv = Geometry(weight.shape, _each(stride, n, 1), sides, dilation, groups or 1)
        parts.append((target, Patches(rows, g, conv)))
    if bias is not None and (target := call.target(bias)) is not None:
        wide = g if g.dtype == torch.float64 else g.float()
        parts.append((target, Dense(wide.sum([1, *range(3, g.ndim)]))))
    return parts


def _each(value: Any, n: int, default: int) -> tuple[int, ...]:
    if value is None:
        return (default,) * n
    if isinstance(value, int):
        return (value,) * n
    return tuple(value) if len(value) == n else tuple(value) * n


def _sides(padding: Any, kernel: torch.Size, dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Zeros before and behind each dimension, laid as torch lays them for "same"."""
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    return tuple((p, p) for p in _each(0 if padding == "valid" else padding, len(kernel), 0))
