"""From folders to runs: what can be compared, and what was left out and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._errors import CheckpointError, InputError
from ..train import History
from . import runs

# Options that say which rows a run saw, beside stream, scenario and number of tasks.
_OF_STREAM = ("stream_set",)
# Options that are named elsewhere or change no number; every other one belongs to how a run learnt.
_NEITHER = ("stream", "scenario", "tasks", "method", "seed", "set", "measure", "trackers", "by_modality", "device")


@dataclass(frozen=True)
class Run:
    """One finished training run: its name, its options, the versions it ran with, and what came out."""

    name: str
    options: dict[str, Any]
    versions: dict[str, Any]
    history: History

    @property
    def method(self) -> str:
        return self.history.method

    @property
    def seed(self) -> int:
        return self.history.seed

    @property
    def stream(self) -> str:
        """The stream's name, its scenario and how many tasks it has, and whatever else decides which rows it gives."""
        name = str(self.options.get("stream", "stream"))
        rest = [show(self.options[key]) for key in _OF_STREAM if _given(self.options.get(key))]
        rest += [] if self.history.measure == "accuracy" else [self.score]
        return " · ".join([name, self.history.scenario, f"{len(self.history.tasks)} tasks", *rest])

    @property
    def score(self) -> str:
        """What the accuracy matrix holds, as papers write it."""
        return {"recall_at_1": "R@1"}.get(self.history.measure, self.history.measure.replace("_", " "))

    @property
    def settings(self) -> dict[str, Any]:
        """How it learnt: options and hyper-parameters, without the seed and without what belongs to the stream."""
        outside = (*_OF_STREAM, *_NEITHER)
        chosen = {name: value for name, value in self.options.items() if name not in outside and _given(value)}
        return {**chosen, **{name: value for name, value in self.history.hyper.items() if name != "measure"}}


@dataclass
class Collected:
    """The runs to compare, and (name, reason) of every folder that was left out."""

    runs: list[Run] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def collect(places: Sequence[Path]) -> Collected:
    """The finished training runs in these folders, and in the folders below those that are no run themselves.

    Files are passed over, so that ``runs/*`` may hold an earlier page. Raises InputError where a place does not exist,
    and where not one run remains.
    """
    found = Collected()
    for place in places:
        if not place.exists():
            raise InputError(f"{place}: expected the folder of a run, found no such folder.")
        for folder in _folders(place):
            try:
                found.runs.append(_read(folder))
            except CheckpointError as error:
                found.left_out.append((str(folder), str(error)))
    if not found.runs:
        reasons = " ".join(reason for _, reason in found.left_out[:3]) or "no folder holds a run.json."
        raise InputError(f"{', '.join(map(str, places))}: expected at least one finished training run; {reasons}")
    _leave_out_repeats(found)
    return found


def show(value: object) -> str:
    """A setting as people write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {show(item)}" for key, item in value.items())
    return ", ".join(map(show, value)) if isinstance(value, list | tuple) else "none" if value is None else str(value)


def _folders(place: Path) -> Iterable[Path]:
    if not place.is_dir():
        return []
    if (place / runs.RECORD).exists():
        return [place]
    return sorted(record.parent for record in place.rglob(runs.RECORD))


def _read(folder: Path) -> Run:
    record = runs.read_record(folder)
    if record["kind"] != "train":
        raise CheckpointError(f"{folder} holds a {record['kind']} run; only training runs are compared.")
    path = folder / runs.RESULTS["train"]
    if not path.exists():
        raise CheckpointError(f"{folder} is not finished ({path.name} is missing); finish it first.")
    try:
        history = History.from_dict(runs.read_json(path))
        history.summary()
    except (InputError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{path}: a value is missing or of the wrong kind ({error}).") from error
    versions = record.get("versions")
    return Run(str(folder), record["options"], versions if isinstance(versions, dict) else {}, history)


def _leave_out_repeats(found: Collected) -> None:
    """A run with the settings and the seed of another is no further seed: it would make intervals too narrow."""
    kept: dict[str, Run] = {}
    for run in found.runs:
        key = repr((run.stream, run.method, run.seed, sorted(run.settings.items(), key=str)))
        if key in kept:
            found.left_out.append((run.name, f"it repeats {kept[key].name}: same method, stream, settings and seed."))
        else:
            kept[key] = run
    found.runs = list(kept.values())


def _given(value: object) -> bool:
    return value not in (None, {}, [], "")
