"""Two CLIP losses compared on the same features, against float64, and what rounding alone does to a training."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.clip_training import Loss

Features = tuple[Tensor, Tensor, Tensor]  # both sides [B, D] and the scale, 0-d


@dataclass(frozen=True)
class LossCheck:
    """A loss on given features: value, gradient, the gaps to float64, CPU seconds for forward and backward."""

    loss: float
    gradient: list[Tensor]
    error: Gap
    seconds: float


@dataclass(frozen=True)
class Gap:
    """How far two evaluations are apart: loss and scale (its gradient passes through zero) absolute, features relative.

    features: largest difference of the gradients of both sides, relative to the largest entry of the side's.
    """

    loss: float
    features: float
    scale: float


def exact_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss from the whole matrix."""
    logits, own = scale * image @ text.T, torch.arange(len(image))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def check(loss: Loss, features: Features) -> LossCheck:
    """``loss`` on ``features`` beside the float64 truth."""
    leaves = [x.clone().requires_grad_() for x in features]
    start = time.process_time()
    value = loss(*leaves)
    gradient = list(torch.autograd.grad(value, leaves))
    seconds = time.process_time() - start
    exact = [x.double().requires_grad_() for x in features]
    truth = exact_loss(*exact)
    error = gap(value.item(), gradient, truth.item(), list(torch.autograd.grad(truth, exact)))
    return LossCheck(value.item(), gradient, error, seconds)


def gap(loss: float, gradient: list[Tensor], other_loss: float, other: list[Tensor]) -> Gap:
    """One evaluation beside another, which gives the unit of the features' difference."""
    apart = [float((x.double() - y.double()).abs().max()) for x, y in zip(gradient, other, strict=True)]
    features = max(d / float(y.abs().max()) for d, y in zip(apart[:2], other[:2], strict=True))
    return Gap(abs(loss - other_loss), features, apart[2])


@torch.no_grad()
def nudged(model: nn.Module) -> nn.Module:
    """The same model with one weight of its image tower moved to the next float32."""
    weight = model.visual.proj
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(math.inf))
    return model
