"""Where a run stands: what a part may read about it."""

from __future__ import annotations

from dataclasses import dataclass

from pyfast_mmcl.data import Scenario, Stream, Task


@dataclass
class Position:
    """Where a run stands: ``step`` batches of ``epoch`` of ``task`` are done, ``total`` batches of the whole run."""

    task: int = 0
    epoch: int = 0
    step: int = 0
    total: int = 0
    started: bool = False  # whether before_task has been called for this task


class Place:
    """The place of a run in its stream: task, epoch, step, and what the stream asks for there."""

    def __init__(self, epochs: int | list[int]) -> None:
        self.given_epochs = epochs
        self.task: Task | None = None
        self.steps_per_epoch = 0
        self._at = Position()
        self._stream: Stream | None = None

    @property
    def step(self) -> int:
        """Batches trained on so far, over all tasks."""
        return self._at.total

    @property
    def epoch(self) -> int:
        """Epoch of the current task, from 0."""
        return self._at.epoch

    @property
    def epochs(self) -> int:
        """Epochs of the current task, at most."""
        return self.epochs_of(0 if self.task is None else self.task.id)

    @property
    def step_of_epoch(self) -> int:
        """Batches of the current epoch trained on so far; ``steps_per_epoch`` is their number."""
        return self._at.step

    @property
    def objective(self) -> str:
        """What the stream asks to be learnt: "classify" or "pairs"."""
        return "classify" if self._stream is None else self._stream.objective

    @property
    def scenario(self) -> Scenario | None:
        """The rules of the stream: its labels and modalities, and whether a row tells its task at test."""
        return None if self._stream is None else self._stream.scenario

    @property
    def classes_seen(self) -> tuple[int, ...]:
        """Classes of the tasks up to the current one."""
        tasks = self._stream.tasks[: self.task.id + 1] if self._stream and self.task else []
        return tuple(sorted({label for task in tasks for label in task.classes}))

    def epochs_of(self, task: int) -> int:
        """Epochs of a task, at most."""
        return self.given_epochs[task] if isinstance(self.given_epochs, list) else self.given_epochs
