"""What one use of a parameter adds to the gradient of each sample, before anything is squared.

Every contribution answers three questions about the per-sample gradients G [B, *shape] of one parameter:
`square_into(out)`: out += Σ_b G_b²;  `dense(rows)`: G of some samples;  `norms()`: ‖G_b‖² [B].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .outer import outer_square_accumulate


class Contribution(Protocol):
    """Per-sample gradients of one parameter, kept in whatever form is cheapest."""

    @property
    def samples(self) -> int: ...
    def square_into(self, out: Tensor, absolute: bool, backend: str) -> None: ...
    def dense(self, rows: slice, dtype: torch.dtype) -> Tensor: ...
    def norms(self, dtype: torch.dtype) -> Tensor: ...


@dataclass
class Dense:
    """The per-sample gradients themselves: biases, gains and other small parameters. values [B, *shape]."""

    values: Tensor

    @property
    def samples(self) -> int:
        return self.values.shape[0]

    def square_into(self, out: Tensor, absolute: bool, backend: str) -> None:
        values = self.values.to(out.dtype)
        out += (values.abs() if absolute else values.square()).sum(0)

    def dense(self, rows: slice, dtype: torch.dtype) -> Tensor:
        return self.values[rows].to(dtype)

    def norms(self, dtype: torch.dtype) -> Tensor:
        return self.values.to(dtype).flatten(1).square().sum(1)


@dataclass
class Outer:
    """``G_b = Σ_s g_s ⊗ a_s`` for a weight [O, I] (or [O, I, 1, …]); ``transposed`` for a weight [I, O].

    g [B, S, O], a [B, S, I]
    """

    g: Tensor
    a: Tensor
    shape: torch.Size
    transposed: bool = False

    @property
    def samples(self) -> int:
        return self.g.shape[0]

    def square_into(self, out: Tensor, absolute: bool, backend: str) -> None:
        matrix = as_matrix(out)
        target = matrix.t() if self.transposed else matrix
        outer_square_accumulate(target, *self._pair(), absolute=absolute, backend=backend)
        if matrix.data_ptr() != out.data_ptr():
            out.copy_(matrix.view(out.shape))

    def _pair(self) -> tuple[Tensor, Tensor]:
        return (self.g[:, 0], self.a[:, 0]) if self.g.shape[1] == 1 else (self.g, self.a)

    def dense(self, rows: slice, dtype: torch.dtype) -> Tensor:
        product = self.g[rows].to(dtype).mT @ self.a[rows].to(dtype)
        return (product.mT if self.transposed else product).reshape(-1, *self.shape)

    def norms(self, dtype: torch.dtype) -> Tensor:
        g, a = self.g.to(dtype), self.a.to(dtype)
        steps, outputs, inputs = g.shape[1], g.shape[2], a.shape[2]
        if steps == 1:
            return g[:, 0].square().sum(1) * a[:, 0].square().sum(1)
        if steps * (outputs + inputs) <= outputs * inputs:
            return ((g @ g.mT) * (a @ a.mT)).sum((1, 2))
        return torch.stack([(g_b.t() @ a_b).square().sum() for g_b, a_b in zip(g, a, strict=True)])

    @staticmethod
    def joined(parts: list[Outer]) -> Outer:
        """Several uses of one weight are one longer sequence: their gradients add before the square."""
        g, a = torch.cat([p.g for p in parts], 1), torch.cat([p.a for p in parts], 1)
        return Outer(g, a, parts[0].shape, parts[0].transposed)


def as_matrix(out: Tensor) -> Tensor:
    """``out`` as [O, rest], sharing its memory where the strides allow it."""
    return out if out.ndim == 2 else out.reshape(out.shape[0], -1)
