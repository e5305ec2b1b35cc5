"""Settings of a learner: whether they fit the stream, and what the history says about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.data import Stream

if TYPE_CHECKING:
    from pyfast_mmcl.train.learner import Learner


def check_epochs(epochs: int | Sequence[int]) -> int | list[int]:
    """One number of epochs, or one per task. Raises InputError for anything else."""
    if isinstance(epochs, list | tuple):
        return [whole_number("epochs", number) for number in epochs]
    return whole_number("epochs", epochs)


def check_stream(learner: Learner, stream: Stream) -> None:
    """Raise InputError for what is no stream, or one that the learner's settings do not fit."""
    if not isinstance(stream, Stream):
        raise InputError(f"fit: expected a Stream, got {type(stream).__name__}; make one with Stream.from_dataset.")
    epochs = learner.given_epochs
    if isinstance(epochs, list) and len(epochs) != len(stream.tasks):
        raise InputError(f"epochs: expected one number, or {len(stream.tasks)} for as many tasks, got {epochs}.")
    if learner._early is not None and not all(len(stream.rows(task.id, "validation")) for task in stream.tasks):
        raise InputError("patience: early stopping looks at validation rows, and a task has none; set validation=.")


def settings_of(learner: Learner) -> dict[str, Any]:
    """What the history says about a run: the arguments of the method, epochs, batch size, and what is not as usual."""
    stepper = learner._stepper
    unusual = {
        "schedule": (learner._rate.name, "constant"),
        "warmup": (learner._rate.warmup, 0),
        "patience": (None if learner._early is None else learner._early.patience, None),
        "precision": (stepper.precision.name, "no"),
        "accumulate": (stepper.accumulate, 1),
        "clip_norm": (stepper.clip_norm, None),
        "processes": (learner._processes.world, 1),
        "measure": (learner.measure_name, None),
    }
    always = {**learner.method.hyper, "epochs": learner.given_epochs, "batch_size": learner.batch_size}
    return always | {name: value for name, (value, usual) in unusual.items() if value != usual}
