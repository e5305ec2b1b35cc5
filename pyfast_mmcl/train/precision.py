"""Mixed precision: what the model computes in, and the scaling that float16 gradients need."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.optim import Optimizer

PRECISIONS: dict[str, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """The model under autocast to ``name``, its weights, the losses and the step in the precision they have.

    "no"    everything in the precision of the weights
    "bf16"  products in bfloat16
    "fp16"  products in float16; the loss is scaled up before the backward pass and the gradients down again, and a
            step whose gradients overflow is left out (torch.amp.GradScaler)
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if not isinstance(name, str) or name not in PRECISIONS:
            raise unknown_name("precision", name, PRECISIONS)
        self.name = name
        self._device = device.type
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        """What the model is called under."""
        dtype = PRECISIONS[self.name]
        return nullcontext() if dtype is None else torch.autocast(self._device, dtype)

    def backward(self, total: Tensor) -> None:
        """Gradients of ``total``, scaled where float16 asks for it."""
        (total if self.scaler is None else self.scaler.scale(total)).backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Gradients as they are, for whoever looks at them before the step."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """One step of ``optimizer``, or none where float16 gradients overflowed."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()


def precision_name(precision: str | None, accelerator: Accelerator | None) -> str:
    """The precision asked for, of the learner or of its accelerator. Raises InputError when the two differ."""
    theirs = None if accelerator is None else str(accelerator.mixed_precision)
    if precision is not None and theirs not in (None, "no", precision):
        raise InputError(f"precision: {precision!r} was asked for, and the accelerator has {theirs!r}; give one.")
    return precision or theirs or "no"
