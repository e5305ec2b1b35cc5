"""Rows of three modalities with tasks and gaps, and encoders for them that are chains of layers."""

import torch
from torch import nn

from pyfast_mmcl.data import Batch
from pyfast_mmcl.models.chains import text_chain

TASK_CLASSES = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 0, 1]], dtype=torch.bool)
WIDTHS = {"embedding": 4, "features": 6}


def encoders():
    return {
        "a": nn.Sequential(nn.Flatten(), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4)),
        "b": nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4), nn.Tanh()
        ),
        "t": text_chain(9, 4),
    }


def rows(n=11, task=None, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    task = torch.randint(3, (n,), generator=g) if task is None else torch.full((n,), task)
    inputs = {
        "a": torch.randn(n, 5, generator=g, dtype=dtype),
        "b": torch.randn(n, 1, 4, 4, generator=g, dtype=dtype),
        "t": torch.randint(9, (n, 3), generator=g),
    }
    present = {m: torch.rand(n, generator=g) > 0.3 for m in inputs}
    target = torch.tensor([int(TASK_CLASSES[t].nonzero()[0]) for t in task.tolist()], dtype=torch.int64)
    return Batch(inputs, target, task, present, torch.arange(n))
