"""A small training loop for CLIP models: AdamW, warm-up and cosine, and the loss as an argument."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyfast_mmcl.metrics.retrieval import cross_modal_recall

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LARGEST_SCALE = math.log(100)  # CLIP clips the logit scale there


@dataclass(frozen=True)
class Recipe:
    """Steps, rows per step, and AdamW's settings; a linear warm-up, then half a cosine to 0."""

    steps: int = 160
    batch: int = 128
    lr: float = 1e-3
    warm_up: int = 20
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)

    def rate(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 0."""
        return self.lr * min((step + 1) / self.warm_up, 0.5 * (1 + math.cos(math.pi * step / self.steps)))


class Trainer:
    """One model on its way. After a step: ``value`` of the loss, ``seconds`` of CPU, ``features`` it came from."""

    def __init__(self, model: nn.Module, loss: Loss, recipe: Recipe) -> None:
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]  # gains, biases, logit scale: no decay
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        self.model, self.loss, self.recipe = model.train(), loss, recipe
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
        )
        self.done = 0
        self.value = self.seconds = math.nan
        self.features: tuple[Tensor, Tensor, Tensor] = ()

    def step(self, images: Tensor, tokens: Tensor) -> float:
        """Forward, backward and one step of the optimizer; returns the loss."""
        start = time.process_time()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.done)
        features = embed(self.model, images, tokens)
        loss = self.loss(*features)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, LARGEST_SCALE)
        self.value, self.seconds = loss.item(), time.process_time() - start
        self.features = tuple(x.detach() for x in features)
        self.done += 1
        return self.value


def embed(model: nn.Module, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rows of both sides [B, D] and the scale, 0-d: what a CLIP loss takes."""
    image, text = model.encode_image(images), model.encode_text(tokens)
    return F.normalize(image, dim=1), F.normalize(text, dim=1), model.logit_scale.exp()


@torch.no_grad()
def retrieval(
    model: nn.Module, images: Tensor, tokens: Tensor, labels: tuple[np.ndarray, np.ndarray], rows: int = 128
) -> dict[str, float]:
    """Recall at 1, 5 and 10 in both directions; labels as in `cross_modal_recall`. The model is left as it was."""
    training = model.training
    model.eval()
    image = torch.cat([model.encode_image(part) for part in images.split(rows)])
    text = torch.cat([model.encode_text(part) for part in tokens.split(rows)])
    model.train(training)
    return cross_modal_recall(image, text, labels)
