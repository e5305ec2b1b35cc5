"""One forward and one backward pass that hand the per-sample gradients of every layer to a collector."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..._errors import InputError, unknown_name
from .calls import Call
from .capture import Capture
from .collect import Collector
from .plan import Plan
from .rules import contributions

Forward = Callable[[nn.Module, Any], tuple[Any, Any]]
# (outputs, target, batch) → pairs (losses [B], weights [B]), one backward pass each
Seeds = Callable[[Any, Any, Any], Iterator[tuple[Tensor, Tensor]]]


class Engine:
    """Runs batches of one model. params: the parameters whose per-sample gradients are wanted, by name."""

    def __init__(self, model: nn.Module, params: Mapping[str, Tensor], forward: Forward, seeds: Seeds) -> None:
        self.model, self.params, self.plan = model, params, Plan()
        self._forward, self._seeds = forward, seeds

    def run(self, batch: Any, collector: Collector) -> int:
        """Collect a batch; returns its number of samples."""

        last = False

        def take(call: Call, grads: list[Tensor | None]) -> None:
            for target, part in contributions(call, grads):
                collector.add(target, part)
            if last:
                call.release()

        capture = Capture(self.params, self.plan, take)
        try:
            with frozen(self.model):
                pairs = self.trace(batch, capture)
                samples = len(pairs[0][0])
                for call in capture.calls:
                    call.samples = samples
                collector.begin(capture.shared, capture.calls)
                for i, (losses, weights) in enumerate(pairs):
                    last = i + 1 == len(pairs)
                    if losses.requires_grad:
                        torch.autograd.grad(losses, [capture.anchor], weights, retain_graph=not last, allow_unused=True)
                    collector.end()
        finally:
            capture.close()
        return samples

    def trace(self, batch: Any, capture: Capture) -> list[tuple[Tensor, Tensor]]:
        """The forward pass and the losses, seen by ``capture``."""
        with torch.enable_grad(), capture:
            outputs, target = self._forward(self.model, batch)
            return list(self._seeds(outputs, target, batch))


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


def choose_params(model: nn.Module, params: Any) -> dict[str, Tensor]:
    """Parameters by name: all that require a gradient, or those listed by name or as tensors."""
    named: dict[str, Tensor] = dict(model.named_parameters())
    if torch.is_inference_mode_enabled():
        raise InputError(
            "inference mode records nothing to take gradients of; call this outside torch.inference_mode()."
        )
    if params is None:
        return {name: p for name, p in named.items() if p.requires_grad}
    names = {id(p): name for name, p in named.items()}
    chosen: dict[str, Tensor] = {}
    for item in [params] if isinstance(params, (str, Tensor)) else params:
        name = names.get(id(item)) if isinstance(item, Tensor) else item
        if name is None:
            raise InputError(
                "params: a tensor is not a parameter of this model; list names of model.named_parameters()."
            )
        if name not in named:
            raise unknown_name("parameter", name, named)
        chosen[name] = named[name]
    return chosen


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise InputError when a normalisation layer takes its statistics from the batch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise InputError(
                f"{name or type(module).__name__}: batch normalisation over the batch mixes samples, so there is no "
                "gradient of one sample; call model.eval() first (and keep track_running_stats=True)."
            )
