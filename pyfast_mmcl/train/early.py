"""Early stopping: a task ends when the validation rows have not been answered better for a while."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class EarlyStop:
    """Stops after ``patience`` epochs without a better measure, and then brings back the weights of the best epoch."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.start()

    def start(self) -> None:
        """Forget the task before."""
        self._best: float | None = None
        self._waited = 0
        self._weights: dict[str, Tensor] = {}

    @property
    def stopped(self) -> bool:
        """Whether it is time to stop."""
        return self._waited >= self.patience

    def look(self, value: float, model: nn.Module) -> None:
        """Take the measure of the epoch that has just ended. Equal is not better."""
        if self._best is None or value > self._best:
            self._best, self._waited = value, 0
            self._weights = {name: x.detach().clone() for name, x in model.state_dict().items()}
        else:
            self._waited += 1

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Give ``model`` the weights of the best epoch."""
        if self._weights and self._waited:
            model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._waited, self._weights = state["best"], state["waited"], state["weights"]
