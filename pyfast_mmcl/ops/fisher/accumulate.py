"""Squared (or absolute) per-sample gradients, summed over samples."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .collect import Collector, wide
from .contributions import Contribution
from .shared import Shared


class SquareSums(Collector):
    """``totals[name] = Σ_b G_b²`` (or |G_b|), float32, float64 for float64 parameters."""

    def __init__(self, params: Mapping[str, Tensor], absolute: bool, backend: str) -> None:
        super().__init__(params)
        self.totals = {name: torch.zeros_like(p, dtype=wide(p), requires_grad=False) for name, p in params.items()}
        self._absolute, self._backend = absolute, backend

    def take(self, target: Shared, part: Contribution) -> None:
        part.square_into(target.region.of(self.totals[target.region.name]), self._absolute, self._backend)

    def take_dense(self, grads: dict[str, Tensor], rows: slice) -> None:
        for name, g in grads.items():
            self.totals[name] += (g.abs_() if self._absolute else g.square_()).sum(0)
