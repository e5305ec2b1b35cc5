"""The samplers compiled with CUDA under the names and promises of `_native_sampling`: checked input, host numbers."""

from __future__ import annotations

from torch import Tensor

from ..knn._checks import check_finite
from . import _native_sampling_cuda as cuda
from ._reservoir_torch import ReservoirReference


def herding(features: Tensor, m: int, rows: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """Orders [G, m]."""
    check_finite(features, "features")
    return cuda.herding(features, m, rows, offsets)


def k_center(features: Tensor, m: int, first: int | None = None, centers: Tensor | None = None) -> tuple[Tensor, float]:
    """Picks [m] and radius."""
    check_finite(features, "features")
    chosen, radius = cuda.k_center(features, m, first, centers)
    return chosen, float(radius)


class PriorityTree(cuda.PriorityTree):
    """The tree of a GPU, whose size the host may ask for."""

    def __len__(self) -> int:
        return int(self.positive)


class Reservoir(ReservoirReference):
    """As in torch; a full reservoir without groups and weights refuses rows in one compiled pass."""

    def _promising(self, index: Tensor, groups: Tensor | None, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        if groups is not None or weights is not None or len(self) < self.capacity or len(index) == 0:
            return super()._promising(index, groups, weights)
        keys, rows, count = cuda.reservoir_accept(self.seed, index, self._keys.min()[None])
        return keys, rows[: int(count)]
