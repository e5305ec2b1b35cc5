"""What a method can say about training: one class, eight hooks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class Part:
    """A piece of a method. Override only what the method says; every hook does nothing by default.

    The learner calls the hooks of all parts in the order of the list and sums the terms of ``loss``. A part reads the
    learner and never writes to it: model, device, task, classes_seen, epoch, epochs, step_of_epoch, steps_per_epoch,
    seed, generator. Random numbers come from ``learner.generator``, which depends on (seed, place in the run) alone.
    The constructor only stores hyper-parameters; state learned on the way ends in ``_`` and goes through
    ``state_dict``.
    """

    @property
    def name(self) -> str:
        """Name of the term in logs and messages: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def before_task(self, learner: Learner, task: Task) -> None:
        """Called before the optimizer of the task is built: grow a head, freeze weights, reset statistics."""

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        """Add rows after the fresh ones, before the one forward pass."""
        return batch

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        """One scalar term of the objective, or None when there is nothing to say."""
        return None

    def edit_grads(self, learner: Learner, batch: Batch) -> None:
        """Change ``p.grad`` of the model after the backward pass and before the step."""

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        """Called without gradients after the step: fill a memory, average weights."""

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        """Called after the last epoch; ``loader`` gives the training rows of the task in the order of their ids."""

    def predict(self, learner: Learner, batch: Batch, out: Output) -> Tensor | Output | None:
        """Scores [B, C] that replace those of the model, an Output in place of the whole answer, or None.

        Row i may depend on row i of the batch alone.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Everything the part has learned: nested dicts and lists of tensors, numbers and strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
