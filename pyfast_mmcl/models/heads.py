"""Heads: features to scores of classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassifierHead(nn.Module):
    """Linear scores over the union of all classes: features [B, D] → scores [B, C].

    task_classes  bool [T, C]: the classes of each task. Rows that carry a task id (task ≥ 0) are then scored on the
                  classes of their own task alone; the others get the lowest finite number, which is 0 after a softmax
                  and, unlike −inf, leaves differences of scores finite.
    """

    task_classes: Tensor | None

    def __init__(self, features: int, n_classes: int, task_classes: Tensor | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(features, n_classes)
        self.register_buffer("task_classes", task_classes)

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        scores = self.linear(features)
        if self.task_classes is None:
            return scores
        allowed = self.task_classes[task.clamp(min=0)] | (task < 0).unsqueeze(1)
        return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)


def is_masked(scores: Tensor) -> Tensor:
    """bool, where a task-incremental head has put the lowest number of its precision in place of a score."""
    # float16 has the least negative one.
    return scores <= torch.finfo(torch.float16).min
