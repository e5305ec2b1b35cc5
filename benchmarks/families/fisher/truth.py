"""Every answer that may be asked for, in float64, by a loop over single samples."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.families.fisher.cases import Case
from benchmarks.families.fisher.models import build

SAMPLE = 64  # elements of each parameter that are compared

# What a contestant computes. Only the first is the Fisher; the others are what it is compared with.
FISHER, BATCH, GRADIENT = "fisher", "batch", "gradient"


def sampled(tensors: list[Tensor]) -> np.ndarray:
    """Evenly spaced elements of every parameter, [parameters, SAMPLE]; short parameters repeat theirs."""
    rows = []
    for x in tensors:
        places = torch.linspace(0, x.numel() - 1, SAMPLE).long()
        rows.append(x.detach().reshape(-1)[places.to(x.device)].double().cpu().numpy())
    return np.stack(rows)


def truth_of(case: Case, arrays: dict) -> dict[str, np.ndarray]:
    """Mean squared per-sample gradient, mean over batches of the squared batch-mean gradient, mean gradient."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(case.model).double().to(device)
    params = list(model.parameters())
    x = torch.tensor(np.asarray(arrays["x"]), dtype=torch.float64, device=device)
    y = torch.tensor(np.asarray(arrays["y"]), device=device)
    fisher, batch, gradient = ([torch.zeros_like(p) for p in params] for _ in range(3))
    for start in range(0, case.N, case.B):
        mean = [torch.zeros_like(p) for p in params]
        for n in range(start, start + case.B):
            for i, g in enumerate(torch.autograd.grad(F.cross_entropy(model(x[n : n + 1]), y[n : n + 1]), params)):
                fisher[i] += g.square() / case.N
                mean[i] += g / case.B
        for i, g in enumerate(mean):
            batch[i] += g.square() * (case.B / case.N)
            gradient[i] += g * (case.B / case.N)
    return {FISHER: sampled(fisher), BATCH: sampled(batch), GRADIENT: sampled(gradient)}
