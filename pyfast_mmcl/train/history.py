"""What happened in a run: accuracies, losses, seconds, memory. Strict JSON in and out."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics.continual import summary
from pyfast_mmcl.train.files import replace_text

KIND = "pyfast_mmcl history"


@dataclass
class History:
    """The record of one run over T tasks.

    accuracy          T rows of T numbers in [0, 1]: row i after task i, column j the test accuracy on task j
    initial           [T] accuracy of the untrained model
    losses            one entry per epoch: {"task", "epoch", "steps", "terms": {part: mean value}}, and "validation",
                      the measure of the validation rows, where early stopping looks at them
    by_modality       {modality: T rows of T numbers}: as accuracy, with that modality alone (of pairs: one direction)
    seconds           [T] training time per task, without evaluation
    peak_memory       [T] bytes: largest CUDA allocation so far, or largest resident size of the process on the CPU
    kept_bytes        [T] bytes that the method keeps beside the model after each task
    trainable_parameters, parameters
                      [T] numbers that the task's optimizer may change, and numbers of the whole model after the task
    epochs            [T] epochs that each task took
    measure           name of what the accuracy matrix holds: "accuracy", "recall_at_1" of pairs, …
    """

    method: str
    scenario: str
    tasks: list[str]
    seed: int
    hyper: dict[str, Any] = field(default_factory=dict)
    accuracy: list[list[float]] = field(default_factory=list)
    initial: list[float] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak_memory: list[int] = field(default_factory=list)
    kept_bytes: list[int] = field(default_factory=list)
    trainable_parameters: list[int] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    by_modality: dict[str, list[list[float]]] = field(default_factory=dict)
    measure: str = "accuracy"

    @property
    def accuracy_matrix(self) -> np.ndarray:
        """float64 [T, T]; NaN in rows that the run has not reached."""
        matrix = np.full((len(self.tasks), len(self.tasks)), math.nan)
        for i, row in enumerate(self.accuracy):
            matrix[i] = row
        return matrix

    @property
    def initial_accuracy(self) -> np.ndarray:
        """float64 [T]: the accuracy b that forward transfer is measured from."""
        return np.array(self.initial, dtype=float)

    @property
    def finished(self) -> bool:
        return len(self.accuracy) == len(self.tasks)

    def summary(self) -> dict[str, float]:
        """The continual-learning measures by name. Raises InputError while tasks are missing."""
        if not self.finished:
            raise InputError(
                f"history: {len(self.accuracy)} of {len(self.tasks)} tasks are done; finish the run first."
            )
        return summary(self.accuracy_matrix, self.initial_accuracy)

    def cost(self) -> dict[str, float]:
        """What the run cost, over the tasks done: the card that methods are compared by.

        seconds per task (mean), peak memory (largest), bytes kept (after the last task), trainable parameters (largest)
        and all parameters (after the last task). Empty before the first task is done.
        """
        if not self.accuracy:
            return {}
        done = len(self.accuracy)
        return {
            "seconds_per_task": sum(self.seconds[:done]) / done,
            "peak_memory": max(self.peak_memory),
            "kept_bytes": self.kept_bytes[-1],
            "trainable_parameters": max(self.trainable_parameters, default=0),
            "parameters": self.parameters[-1] if self.parameters else 0,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts; NaN becomes None."""
        return _without_nan(asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        history = cls(**values)
        history.initial = _with_nan(history.initial)
        history.accuracy = _with_nan(history.accuracy)
        history.by_modality = {name: _with_nan(rows) for name, rows in history.by_modality.items()}
        return history

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, atomically."""
        replace_text(Path(path), json.dumps({"kind": KIND, **self.to_dict()}, indent=1, allow_nan=False))

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read a record. Raises InputError when the file is missing, damaged or something else."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"history {path}: expected a JSON file of a run, {error}.") from error
        if not isinstance(values, dict) or values.pop("kind", None) != KIND:
            raise InputError(f"history {path}: this is not the record of a run; choose the file that a run wrote.")
        try:
            return cls.from_dict(values)
        except TypeError as error:
            others = sorted(set(values) - {entry.name for entry in fields(cls)})
            raise InputError(
                f"history {path}: expected the fields of a run's record, "
                f"{f'found others too: {others}' if others else 'some are not there'}; read it with the version that "
                "wrote it."
            ) from error


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
