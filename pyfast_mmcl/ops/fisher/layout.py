"""Where the samples of a batch lie in a tensor."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Samples run along dimension ``dim``, whose size is B × k.

    major: sample b owns the rows [b·k, (b+1)·k) (`view(B·k, …)`); otherwise rows b, b+B, … (`view(k·B, …)`).
    """

    dim: int
    major: bool = True

    def rows(self, x: Tensor, samples: int) -> Tensor:
        """``x`` as [B, …], one sample per row; each row keeps all its dimensions, ``dim`` with size k."""
        x = x.unflatten(self.dim, (samples, -1) if self.major else (-1, samples))
        return x.movedim(self.dim if self.major else self.dim + 1, 0)

    def fits(self, x: Tensor, samples: int) -> bool:
        """Whether ``x`` can hold ``samples`` along this dimension."""
        return x.ndim > self.dim and samples > 0 and x.shape[self.dim] % samples == 0


def candidates(shapes: list[tuple[int, ...]], sizes: list[int]) -> list[Layout]:
    """Layouts that explain how a shape follows the number of samples: shapes[i] was seen with sizes[i] samples."""
    (first, second), (n, m) = shapes, sizes
    if len(first) != len(second):
        return []
    dims = [d for d in range(len(first)) if first[d] != second[d] and first[d] * m == second[d] * n]
    found = []
    for d in dims:
        found.append(Layout(d))
        if first[d] > n:
            found.append(Layout(d, major=False))
    return found
