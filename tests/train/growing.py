"""A model that gets a column per task, the part that adds it, and one that is taught by the model before."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import mse_loss

from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Part
from pyfast_mmcl.train.teacher import Teacher


class Columns(nn.Module):
    """scores = sum of one small network per task; the newest has a dropout, which draws random numbers."""

    def __init__(self, features: int = 6, n_classes: int = 6) -> None:
        super().__init__()
        self.features, self.n_classes = features, n_classes
        self.columns = nn.ModuleList()
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def add_column(self, width: int) -> None:
        column = nn.Sequential(
            nn.Linear(self.features, width), nn.Dropout(0.2), nn.Tanh(), nn.Linear(width, self.n_classes)
        )
        self.columns.append(column.to(self.bias.device))

    def structure(self) -> list[int]:
        return [column[0].out_features for column in self.columns]

    def restructure(self, structure: list[int]) -> None:
        assert structure[: len(self.columns)] == self.structure()
        for width in structure[len(self.columns) :]:
            self.add_column(width)

    def forward(self, batch):
        start = self.bias.expand(len(batch), -1)
        return Output(sum((column(batch.inputs["a"]) for column in self.columns), start=start))


class Grow(Part):
    """Adds a column before every task, of another width each time, and freezes the earlier ones in evaluation mode."""

    def before_task(self, learner, task):
        for column in learner.model.columns:
            column.requires_grad_(False).eval()
        learner.model.add_column(4 + task.id)


class Taught(Part):
    """0.1 · ‖scores − scores of the model before the task‖², the mean."""

    def __init__(self):
        self.teacher_ = Teacher()

    def before_task(self, learner, task):
        if task.id > 0:
            self.teacher_.take(learner.model)

    def loss(self, learner, batch, out):
        return 0.1 * mse_loss(out.scores, self.teacher_(batch, learner.model).scores) if self.teacher_ else None

    def state_dict(self):
        return self.teacher_.state_dict()

    def load_state_dict(self, state):
        self.teacher_.load_state_dict(state)
