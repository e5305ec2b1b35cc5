"""Value and gradient of the penalty in float64, and where they are compared."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.families.fisher.models import build
from benchmarks.families.quadratic.cases import Case

SAMPLE = 64  # elements of each parameter's gradient that are compared, beside its norm
CHUNK = 1 << 22


def shapes(model: str) -> list[torch.Size]:
    """Shapes of a model's parameters, in their order."""
    with torch.device("meta"):
        return [p.shape for p in build(model).parameters()]


def cut(model: str, flat: Tensor) -> list[Tensor]:
    """Views of a flat tensor as the parameters of a model."""
    sizes = shapes(model)
    return [part.view(size) for part, size in zip(flat.split([size.numel() for size in sizes]), sizes, strict=True)]


def summary(value: float, gradients: list[Tensor]) -> dict[str, np.ndarray]:
    """The value, evenly spaced elements of every gradient [parameters, SAMPLE], and every gradient's norm."""
    rows = []
    for x in gradients:
        places = torch.linspace(0, x.numel() - 1, SAMPLE).long().to(x.device)
        rows.append(x.detach().reshape(-1)[places].double().cpu().numpy())
    norms = [float(torch.linalg.vector_norm(x.detach(), dtype=torch.float64)) for x in gradients]
    return {"value": np.array(float(value)), "gradient": np.stack(rows), "norm": np.array(norms)}


def truth_of(case: Case, arrays: dict) -> dict[str, np.ndarray]:
    """``0.5 * sum_t sum(w_t * (p - a_t)**2)`` and its gradient, piece by piece in float64."""
    value, gradient = 0.0, np.zeros(case.P)
    for start in range(0, case.P, CHUNK):
        piece = slice(start, start + CHUNK)
        current = arrays["current"][piece].astype(np.float64)
        for t in range(case.T):
            distance = current - arrays[f"anchor{t % case.distinct}"][piece]
            pull = distance * arrays[f"weight{t % case.distinct}"][piece]
            value += 0.5 * float(pull @ distance)
            gradient[piece] += pull
    return summary(value, cut(case.model, torch.from_numpy(gradient)))
