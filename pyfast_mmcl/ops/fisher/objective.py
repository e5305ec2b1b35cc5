"""Which gradients are squared: the estimators of the Fisher, and the label-free objective of MAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._errors import InputError, unknown_name
from ..sampling.keys import hash_uniform

LABELS = ("empirical", "sampled", "exact", "batch")
OUTPUTS = (None, "norm2")
Loss = Callable[[Any, Any], Tensor]


def check_choice(labels: str, output: str | None, loss: Loss | None) -> None:
    """Raise InputError for unknown words and for combinations without a meaning."""
    if labels not in LABELS:
        raise unknown_name("labels", labels, LABELS)
    if output not in OUTPUTS:
        raise unknown_name("output", output, [o for o in OUTPUTS if o])
    if labels in ("sampled", "exact") and (loss is not None or output is not None):
        raise InputError(
            f'labels="{labels}" needs the class probabilities of logits [B, C] or [B, S, C]; '
            'with loss= or output= use labels="empirical".'
        )
    if output is not None and loss is not None:
        raise InputError(f'output="{output}" is an objective of its own; leave loss out.')


def cross_entropy(outputs: Any, target: Any) -> Tensor:
    """−log p(target) per sample [B], from logits [B, C] or, summed over the positions of a sample, [B, S, C]."""
    logits = _logits(outputs)
    if not isinstance(target, Tensor):
        raise InputError(f"target: expected a tensor of classes, got {type(target).__name__}; pass loss= for others.")
    if logits.ndim == 3 and target.ndim == 2:
        return F.cross_entropy(logits.transpose(1, 2), target, reduction="none").sum(1)
    return F.cross_entropy(logits, target, reduction="none")


def norm2(outputs: Any, target: Any = None) -> Tensor:
    """‖outputs‖² per sample [B] (Aljundi et al., Memory aware synapses, ECCV 2018, eq. 4)."""
    if not isinstance(outputs, Tensor):
        raise InputError(f'output="norm2": expected a tensor from the model, got {type(outputs).__name__}.')
    wide = outputs if outputs.dtype == torch.float64 else outputs.float()
    return wide.flatten(1).square().sum(1)


def _logits(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.ndim not in (2, 3):
        got = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(
            f"outputs: expected logits [B, C] or [B, S, C], or an object or dict that holds them as logits, got {got}; "
            "pass loss=, a function of (outputs, target) that returns the loss of every sample [B]."
        )
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def seeds(labels: str, loss: Loss, outputs: Any, target: Any, ids: Callable[[int], Tensor], seed: int) -> Iterator:
    """Pairs (losses [B], weights [B]): one backward pass each, started with Σ_b weights_b · losses_b."""
    if labels == "exact":
        yield from _every_class(_logits(outputs))
        return
    if labels == "sampled":
        logits = _logits(outputs)
        target = draw_labels(logits.detach(), ids(len(logits)), seed)
    losses = loss(outputs, target)
    if not isinstance(losses, Tensor) or losses.ndim != 1:
        got = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise InputError(
            f"loss: expected one value per sample, shape [B], got {got}; do not reduce over the batch "
            '(reduction="none"), and sum over the positions of a sample.'
        )
    yield losses, torch.ones_like(losses)


def draw_labels(logits: Tensor, ids: Tensor, seed: int) -> Tensor:
    """One y ~ softmax(logits) per position by inversion; the draw of a sample depends on (seed, its id) alone."""
    positions = logits.shape[1:-1].numel()
    place = ids[:, None] * positions + torch.arange(positions)
    u = hash_uniform(seed, place).reshape(logits.shape[:-1]).to(logits.device)
    below = logits.double().softmax(-1).cumsum(-1)
    return (below <= u.unsqueeze(-1) * below[..., -1:]).sum(-1).clamp_max(logits.shape[-1] - 1)


def _every_class(logits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """E_y of the square: class c starts its pass with √p_c. Positions of a sequence draw independently of each other,

    and the score has mean zero, so the expected square of their sum is the sum of their squares: one pass per position.
    """
    logp = logits.log_softmax(-1).flatten(1, -2) if logits.ndim == 3 else logits.log_softmax(-1)[:, None]
    root = (0.5 * logp.detach()).exp()
    for position in range(logp.shape[1]):
        for c in range(logp.shape[2]):
            yield logp[:, position, c], root[:, position, c]
