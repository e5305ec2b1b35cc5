"""Autograd's graph of a loss: the backward pass through it, and where it ends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from ..._errors import InputError


def backward(losses: Tensor, inputs: list[Tensor], weights: Tensor, *, retain_graph: bool = False) -> tuple[Any, ...]:
    """Gradients of ``(weights * losses).sum()``; None where there is no way to an input."""
    try:
        return torch.autograd.grad(losses, inputs, weights, retain_graph=retain_graph, allow_unused=True)
    except CheckpointError:
        raise checkpointed() from None


def leaves(losses: Tensor) -> list[Tensor]:
    """The tensors that a backward pass would reach. Raises InputError at a checkpoint that runs layers again."""
    found: list[Tensor] = []
    todo: list[Any] = [losses.grad_fn]
    seen = {None, *todo}
    while todo:
        node = todo.pop()
        if node is None:
            continue
        if node.name() == "CheckpointFunctionBackward":
            raise checkpointed()
        if node.name() == "torch::autograd::AccumulateGrad":
            found.append(node.variable)
        for after, _ in node.next_functions:
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return found


def checkpointed() -> InputError:
    """The error for activation checkpointing, whose second forward pass happens out of sight."""
    return InputError(
        "model: activation checkpointing runs layers again where they cannot be followed; turn it off "
        "(model.set_grad_checkpointing(False), model.gradient_checkpointing_disable()) and use smaller batches."
    )
