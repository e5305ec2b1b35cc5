"""Trackers of a run: a CSV file of its own, or any that accelerate knows (TensorBoard, W&B, MLflow, …)."""

from __future__ import annotations

import csv
import inspect
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfast_mmcl._errors import CheckpointError, InputError, unknown_name
from pyfast_mmcl.train.files import replace_text

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pyfast_mmcl.train.history import History

PROJECT = "pyfast_mmcl"
CSV_FILE = "log.csv"
_HEADER = ["step", "name", "value"]


class CsvLog:
    """``<folder>/log.csv``: one line per step and name, written whole at every call, so that it is never half a file.

    A resumed run keeps the lines up to ``step`` and writes those behind it anew.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.path = folder / CSV_FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._rows = {key: value for key, value in _read(self.path).items() if key[0] <= step} if step else {}

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add ``values`` by name at ``step``; what stood there is replaced."""
        self._rows.update({(step, name): repr(value) for name, value in values.items()})
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(_HEADER)
        lines.writerows([step, name, value] for (step, name), value in self._rows.items())
        replace_text(self.path, text.getvalue())

    def finish(self) -> None:
        """Everything is written already."""


class Trackers:
    """All trackers of a run; each gets the same numbers. Without any it does nothing.

    trackers     "csv", names that accelerate knows, and objects with ``log(values, step=…)``
    accelerator  its trackers take part too, where it was made with ``log_with``; it ends them itself
    folder       where those write that write files
    """

    def __init__(
        self,
        trackers: Sequence[Any],
        folder: Path | None,
        config: Mapping[str, Any],
        *,
        step: int = 0,
        accelerator: Accelerator | None = None,
    ) -> None:
        plain = {name: x if isinstance(x, bool | int | float | str) else str(x) for name, x in config.items()}
        self._own = [_open(tracker, folder, plain, step) for tracker in trackers]
        self._lent: list[Any] = []
        if accelerator is not None and accelerator.log_with:
            if not getattr(accelerator, "trackers", None):
                accelerator.init_trackers(PROJECT, config=plain)
            self._lent = list(accelerator.trackers)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Hand ``values`` by name to every tracker."""
        for tracker in (*self._own, *self._lent):
            tracker.log(dict(values), step=step)

    def close(self) -> None:
        """End the trackers that were opened here."""
        for tracker in self._own:
            if hasattr(tracker, "finish"):
                tracker.finish()


def numbers_of(history: History) -> dict[str, float]:
    """What trackers are told at the end of a task: its row of the accuracy matrix, and the costs so far."""
    row = history.accuracy[-1]
    seen = row[: len(history.accuracy)]
    return {
        **{f"accuracy/task {j + 1}": value for j, value in enumerate(row)},
        "accuracy/tasks seen": sum(seen) / len(seen),
        **{f"cost/{name}": value for name, value in history.cost().items()},
    }


def check_trackers(trackers: str | Sequence[Any]) -> tuple[Any, ...]:
    """The trackers as a tuple. Raises InputError for a name that is unknown or whose package is not installed."""
    found = (trackers,) if isinstance(trackers, str) or not isinstance(trackers, Sequence) else tuple(trackers)
    for tracker in found:
        if isinstance(tracker, str) and tracker != "csv":
            _kind(tracker)
        elif not isinstance(tracker, str) and not callable(getattr(tracker, "log", None)):
            raise InputError(f"trackers: expected names or objects with log(values, step=…), got {tracker!r}.")
    return found


def _kind(name: str) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = {str(getattr(kind, "value", kind)): made for kind, made in LOGGER_TYPE_TO_CLASS.items()}
    if name not in known:
        raise unknown_name("tracker", name, ["csv", *known])
    if name not in [str(getattr(kind, "value", kind)) for kind in get_available_trackers()]:
        raise InputError(f"tracker {name!r}: its package is not installed; pip install {name}, or choose 'csv'.")
    return known[name]


def _open(tracker: Any, folder: Path | None, config: dict[str, Any], step: int) -> Any:
    if not isinstance(tracker, str):
        return tracker
    kind = None if tracker == "csv" else _kind(tracker)
    if folder is None and (kind is None or kind.requires_logging_directory):
        raise InputError(f"tracker {tracker!r}: it writes files; give log_dir or checkpoint_dir.")
    if kind is None:
        assert folder is not None
        return CsvLog(folder, step)
    where = {"logging_dir": str(folder)} if kind.requires_logging_directory else {}
    # Lines that a killed run wrote behind its last checkpoint are drawn no more.
    resumed = {"purge_step": step + 1} if step and tracker == "tensorboard" else {}
    made = kind(PROJECT, **where, **resumed)
    if inspect.ismethod(getattr(made, "start", None)):
        made.start()
    made.store_init_configuration(config)
    return made


def _read(path: Path) -> dict[tuple[int, str], str]:
    if not path.exists():
        return {}
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        if not lines or lines[0] != _HEADER:
            raise ValueError("its first line is another")
        return {(int(step), name): value for step, name, value in lines[1:]}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected the log of a run, {error}; move the file away.") from error
