"""Training and evaluation mode of modules, which may differ within one model and come back as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from torch import nn


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every module is in the mode it was in, and a frozen one still rests."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def resting(model: nn.Module) -> list[str]:
    """Names of the modules that are in evaluation mode."""
    return [name for name, module in model.named_modules() if not module.training]


def rest(model: nn.Module, names: Collection[str]) -> None:
    """Training mode for all modules but those of ``names``."""
    for name, module in model.named_modules():
        module.training = name not in names
