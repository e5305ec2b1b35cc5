"""Several processes that act as one: each forwards its share of the rows, all hold the same answers and gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

# Launchers of accelerate that change what a model or an optimizer is; here every process holds the whole of both.
_REFUSED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "XLA")


class Processes:
    """The processes of an ``accelerate.Accelerator``, or this one alone.

    Rows are shared out for the forward pass and the answers gathered, so that every process sees the whole batch with
    its answers, computes the same loss, and draws, keeps and decides the same. Losses over pairs of rows are therefore
    those of one process. With L the loss and J_r what reaches the weights through the rows of process r,

    ``gradient = mean over processes of (W · J_r + what L does to the weights directly) = that of one process``

    up to rounding, where the factor W is taken by the backward pass of ``gather``.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self._accelerator = accelerator
        self.rank: int = 0 if accelerator is None else accelerator.process_index
        self.world: int = 1 if accelerator is None else accelerator.num_processes
        if accelerator is None:
            return
        kind = accelerator.distributed_type.name
        if kind in _REFUSED:
            raise InputError(f"accelerator: expected processes with a whole model each, got {kind}; launch without it.")
        if accelerator.gradient_accumulation_steps != 1:
            raise InputError(
                f"accelerator: expected gradient_accumulation_steps=1, got {accelerator.gradient_accumulation_steps}; "
                "give the learner accumulate= in its place."
            )

    @property
    def main(self) -> bool:
        """Whether this process writes files, draws the bar and talks to trackers."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.world > 1:
            self._accelerator.wait_for_everyone()  # type: ignore[union-attr]

    def gather(self, x: Tensor) -> Tensor:
        """[W · n, …]: the rows x [n, …] of every process, in the order of the processes; with gradients."""
        if self.world == 1:
            return x
        gathered: Tensor = _Gather.apply(x, self)  # type: ignore[no-untyped-call]
        return gathered

    def total(self, x: Tensor) -> Tensor:
        """The sum over processes of x, of one shape; backward, every x gets the sum of the gradients that they have.

        Unlike ``gather`` it does not take the loss to be the same everywhere.
        """
        if self.world == 1:
            return x
        summed: Tensor = _Total.apply(x, self)  # type: ignore[no-untyped-call]
        return summed

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Put the mean over processes in the place of every gradient; one that some lack counts as 0 there."""
        if self.world == 1:
            return
        own = [p for p in parameters if p.requires_grad]
        have = torch.tensor([p.grad is not None for p in own], dtype=torch.float32, device=own[0].device)
        anywhere = (self._reduce(have, "sum") > 0).tolist()
        by_kind: dict[torch.dtype, list[Tensor]] = {}
        for p, some in zip(own, anywhere, strict=True):
            if some:
                by_kind.setdefault(p.dtype, []).append(p)
        for group in by_kind.values():
            # One message per precision: many small ones would each wait for the slowest process.
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in group])
            for p, g in zip(group, self._reduce(flat, "mean").split([p.numel() for p in group]), strict=True):
                p.grad = g.view_as(p)

    def mean(self, x: Tensor) -> Tensor:
        """The mean over processes of x, without gradients."""
        return x if self.world == 1 else self._reduce(x, "mean")

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the ``tensors`` of every process by those of the first."""
        if self.world == 1:
            return
        from accelerate.utils import broadcast

        for tensor in tensors:
            tensor.copy_(broadcast(tensor.detach().clone()))

    def rows_of_all(self, x: Tensor) -> Tensor:
        """As ``gather``, without gradients."""
        gathered: Tensor = self._accelerator.gather(x.contiguous())  # type: ignore[union-attr]
        return gathered

    def sum_of_all(self, x: Tensor) -> Tensor:
        """As ``total``, without gradients."""
        return self._reduce(x.contiguous(), "sum")

    def _reduce(self, x: Tensor, how: str) -> Tensor:
        reduced: Tensor = self._accelerator.reduce(x, reduction=how)  # type: ignore[union-attr]
        return reduced


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes) -> Tensor:
        ctx.processes, ctx.rows = processes, len(x)
        return processes.rows_of_all(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # Every process holds the same gradient of the whole; the mean over processes divides by W again.
        start = ctx.processes.rank * ctx.rows
        return grad[start : start + ctx.rows] * ctx.processes.world, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum_of_all(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.total(grad), None
