"""What replay draws from: a memory of examples, or a generator that makes them up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch

if TYPE_CHECKING:
    from pyfast_mmcl.data import Loader, Task
    from pyfast_mmcl.train.learner import Learner


@runtime_checkable
class ReplaySource(Protocol):
    """Anything that gives rows of earlier tasks. ``Memory`` is one, and so may a generator be: ``Replay(source=…)``.

    ``len(source)`` is how many different rows it can give (0: none yet, and nothing is drawn); ``sample(n, generator)``
    gives at most n rows as a Batch with ``fresh=0``, random numbers from ``generator`` (one of the CPU) alone.

    A source may also have the methods of FilledSource, LearningSource and SavedSource.
    """

    def __len__(self) -> int: ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Batch: ...


@runtime_checkable
class FilledSource(Protocol):
    """A source that is offered the fresh rows of every step, with what is to be kept beside them {name: [B, …]}."""

    def add(self, batch: Batch, extras: dict[str, Tensor] | None = None) -> None: ...


@runtime_checkable
class LearningSource(Protocol):
    """A source that learns from the rows of a task when the task ends; ``loader`` as in ``Part.after_task``.

    Random numbers come from ``learner.generator``; then a resumed run has the same bits.
    """

    def learn(self, learner: Learner, task: Task, loader: Loader) -> None: ...


@runtime_checkable
class SavedSource(Protocol):
    """A source whose state goes into checkpoints: nested dicts and lists of tensors, numbers and strings."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def check_source(source: Any, **memory: Any) -> ReplaySource:
    """``source`` when it gives rows. Raises InputError when it does not, or when settings of a memory come with it."""
    if not isinstance(source, ReplaySource):
        raise InputError(
            f"replay source: expected an object with len() and sample(n, generator), got {type(source).__name__}; "
            "leave source out to replay from a memory."
        )
    given = sorted(name for name, value in memory.items() if value is not None and value != "reservoir")
    if given:
        raise InputError(f"replay: {', '.join(given)} are settings of a memory, and a source is given; drop either.")
    return source
