"""`per_sample_norms`: the length of every sample's gradient, without forming it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .collect import Collector, wide
from .contributions import Contribution
from .diagonal import Draws, collect
from .engine import Engine, Forward, choose_params, refuse_batch_statistics
from .objective import Loss, check_choice, cross_entropy, norm2
from .rows import count_rows, run_model
from .shared import Shared


def per_sample_norms(
    model: nn.Module,
    batch: Any,
    *,
    loss: Loss | None = None,
    params: Iterable[str | Tensor] | None = None,
    output: str | None = None,
    forward: Forward | None = None,
) -> Tensor:
    """Euclidean norm of the gradient of each sample's own loss, over all wanted parameters together.

    ``norms[b] = torch.cat([grad(loss_b, p).flatten() for p in params]).norm()``
    One forward and one backward pass without weight gradients; a linear layer costs
    ``((g @ g.mT) * (a @ a.mT)).sum((1, 2))``, so no [B, P] tensor is formed.

    Args:
        model, batch, loss, params, output, forward: as in `fisher_diagonal`; one batch of B samples.

    Returns:
        [B], float32 (float64 for a float64 model); for clipping: ``(bound / norms).clamp(max=1)``.

    Raises:
        InputError: as `fisher_diagonal`.

    Reference: Goodfellow, arXiv 1510.01799; Li et al., Large language models can be strong differentially private
    learners, ICLR 2022 (ghost clipping).
    """
    check_choice("empirical", output, loss)
    chosen = choose_params(model, params)
    refuse_batch_statistics(model)
    objective = norm2 if output == "norm2" else loss or cross_entropy
    draws = Draws("empirical", objective, 0, None)
    squares = _Squares(chosen)
    if count_rows(batch) == 0:
        return squares.sums(0)
    samples = collect(Engine(model, chosen, forward or run_model, draws), [batch], squares, draws)
    return squares.sums(samples).sqrt()


class _Squares(Collector):
    """Σ over parameters of ‖G_b‖²."""

    def __init__(self, params: Mapping[str, Tensor]) -> None:
        super().__init__(params)
        self._parts: list[tuple[int, Tensor]] = []
        self._dtype = max((wide(p) for p in params.values()), key=lambda d: d.itemsize, default=torch.float32)
        self._device = next((p.device for p in params.values()), torch.device("cpu"))

    def take(self, target: Shared, part: Contribution) -> None:
        self._parts.append((0, part.norms(self._dtype)))

    def take_dense(self, grads: dict[str, Tensor], rows: slice) -> None:
        for g in grads.values():
            self._parts.append((rows.start, g.to(self._dtype).flatten(1).square().sum(1)))

    def sums(self, samples: int) -> Tensor:
        total = torch.zeros(samples, dtype=self._dtype, device=self._device)
        for start, part in self._parts:
            total[start : start + len(part)] += part.to(total.device)
        return total
