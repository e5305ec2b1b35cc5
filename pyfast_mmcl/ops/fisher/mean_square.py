"""The square of the batch-mean gradient: what other packages call the Fisher. For comparison only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .engine import Forward, thawed
from .objective import Loss


def mean_squares(
    model: nn.Module, batches: Iterable[Any], params: Mapping[str, Tensor], forward: Forward, loss: Loss, absolute: bool
) -> tuple[dict[str, Tensor], int]:
    """(Σ over batches of grad(mean loss)², number of batches); depends on the batch size, as the originals do."""
    wide = {n: torch.float64 if p.dtype == torch.float64 else torch.float32 for n, p in params.items()}
    totals = {n: torch.zeros_like(p, dtype=wide[n], requires_grad=False) for n, p in params.items()}
    count = 0
    for batch in batches:
        with torch.enable_grad(), thawed(params):
            mean = loss(*forward(model, batch)).mean()
            known = mean.requires_grad and len(params) > 0
            grads = (
                torch.autograd.grad(mean, list(params.values()), allow_unused=True) if known else [None] * len(params)
            )
        for total, g in zip(totals.values(), grads, strict=True):
            if g is not None:
                g = g.to(total.dtype)
                total += g.abs() if absolute else g.square()
        count += 1
    return totals, count
