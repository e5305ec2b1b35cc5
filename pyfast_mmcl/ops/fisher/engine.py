"""One forward and one backward pass that hand the per-sample gradients of every layer to a collector."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..._errors import InputError, unknown_name
from .alone import Owners, Witness
from .calls import Call
from .capture import Capture
from .collect import Collector
from .graph import backward, leaves
from .plan import Plan
from .rules import contributions
from .shared import tensors_in

Forward = Callable[[nn.Module, Any], tuple[Any, Any]]


class Seeds(Protocol):
    """(outputs, target, batch) → pairs (losses [B], weights [B]), one backward pass each.

    own_loss: whether the loss is the caller's own and may read parameters.
    """

    own_loss: bool

    def __call__(self, outputs: Any, target: Any, batch: Any) -> Iterator[tuple[Tensor, Tensor]]: ...


class Engine:
    """Runs batches of one model. params: the parameters whose per-sample gradients are wanted, by name.

    witness: what the next batch is compared with, once.
    strangers: whether the loss depends on tensors that require a gradient and are no parameters, such as inputs.
    """

    def __init__(self, model: nn.Module, params: Mapping[str, Tensor], forward: Forward, seeds: Seeds) -> None:
        self.model, self.params, self.plan = model, params, Plan()
        self.witness: Witness | None = None
        self.strangers = False
        self._forward, self._seeds = forward, seeds
        self._order_known = False

    def run(self, batch: Any, collector: Collector) -> int:
        """Collect a batch; returns its number of samples."""

        def receive(call: Call, grads: list[Tensor | None]) -> None:
            """Checks that come first want none of it."""

        capture = Capture(self.params, self.plan, lambda call, grads: receive(call, grads))
        try:
            with frozen(self.model):
                outputs, pairs = self.trace(batch, capture)
                samples = len(pairs[0][0])
                for call in capture.calls:
                    call.samples = samples
                collector.begin(capture.shared, capture.calls)
                owners = self._check(outputs, pairs[0][0], capture)
                ends = [capture.anchor, *(leaves(pairs[0][0]) if self.strangers else ())]
                del outputs
                for i, (losses, weights) in enumerate(pairs):
                    last = i + 1 == len(pairs)
                    if losses.requires_grad and owners is not None:
                        receive = owners.note
                        backward(losses, ends, weights * owners.factors, retain_graph=True)
                    receive = _Taking(collector, last, owners)
                    if losses.requires_grad:
                        backward(losses, ends, weights, retain_graph=not last)
                    collector.end()
                    owners = None
        finally:
            capture.close()
        return samples

    def _check(self, outputs: Any, losses: Tensor, capture: Capture) -> Owners | None:
        """Compare the batch with its witness; `Owners` when rows were picked by their data."""
        if self.witness is not None:
            self.witness.check(outputs, losses)
            self.witness = None
        wanted = capture.selected or (capture.moved and not self._order_known)
        self._order_known = True
        return Owners(len(losses), losses) if wanted else None

    def answer(self, batch: Any) -> Any:
        """The outputs alone."""
        return self._forward(self.model, batch)[0]

    def trace(self, batch: Any, capture: Any) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
        """The outputs and the losses with their weights, seen by ``capture``."""
        with torch.enable_grad(), uncompiled():
            with capture:
                outputs, target = self._forward(self.model, batch)
                if self._seeds.own_loss or (isinstance(capture, Capture) and capture.shared.among(tensors_in(outputs))):
                    return outputs, list(self._seeds(outputs, target, batch))
            # losses that read outputs alone need not be watched
            return outputs, list(self._seeds(outputs, target, batch))


class _Taking:
    """Hands the contributions of each call to the collector; ``last``: no pass after this one reads the call."""

    def __init__(self, collector: Collector, last: bool, owners: Owners | None) -> None:
        self._collector, self._last, self._owners = collector, last, owners

    def __call__(self, call: Call, grads: list[Tensor | None]) -> None:
        if self._owners is not None:
            self._owners.compare(call, grads)
        for target, part in contributions(call, grads):
            self._collector.add(target, part)
        if self._last:
            call.release()


def uncompiled() -> contextlib.AbstractContextManager:
    """Models of torch.compile run as they were written: compiled code hides its layers."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    if any(not p.is_leaf for p in wanted):
        raise InputError(
            "model: some of its parameters are computed from other tensors (scripted modules after .to() or "
            ".double()); convert the plain module first."
        )
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


@contextlib.contextmanager
def thawed(params: Mapping[str, Tensor]) -> Iterator[None]:
    """All of ``params`` require a gradient inside: those asked for by name may be frozen."""
    still = [p for p in params.values() if not p.requires_grad]
    for p in still:
        p.requires_grad_(True)
    try:
        yield
    finally:
        for p in still:
            p.requires_grad_(False)


def choose_params(model: nn.Module, params: Any) -> dict[str, Tensor]:
    """Parameters by name: all that require a gradient, or those listed by name or as tensors."""
    named: dict[str, Tensor] = dict(model.named_parameters())
    if torch.is_inference_mode_enabled():
        raise InputError(
            "inference mode records nothing to take gradients of; call this outside torch.inference_mode()."
        )
    if params is None:
        return _real({name: p for name, p in named.items() if p.requires_grad})
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
    return _real(chosen)


def _real(params: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, p in params.items():
        if not p.is_floating_point():
            raise InputError(
                f"{name}: expected a parameter of real floating-point numbers, got {p.dtype}; hold complex numbers as "
                "pairs of real ones, or leave it out with params=."
            )
    return params


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise InputError when a normalisation layer takes its statistics from the batch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise InputError(
                f"{name or type(module).__name__}: batch normalisation over the batch mixes samples, so there is no "
                "gradient of one sample; call model.eval() first (and keep track_running_stats=True)."
            )
