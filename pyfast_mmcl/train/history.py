"""What happened in a run: accuracies, losses, seconds, memory. Strict JSON in and out."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
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
    losses            one entry per epoch: {"task", "epoch", "steps", "terms": {part: mean value}}
    seconds           [T] training time per task, without evaluation
    peak_memory       [T] bytes: largest CUDA allocation so far, or largest resident size of the process on the CPU
    kept_bytes        [T] bytes that the method keeps beside the model after each task
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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts; NaN becomes None."""
        return _without_nan(asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        history = cls(**values)
        history.initial = [math.nan if x is None else x for x in history.initial]
        history.accuracy = [[math.nan if x is None else x for x in row] for row in history.accuracy]
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
        return cls.from_dict(values)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
