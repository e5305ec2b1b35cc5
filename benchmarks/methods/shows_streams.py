"""Streams of the shows: what is trained on, how long, with which methods, and what the tables show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from benchmarks.methods.shows_lines import Line
from pyfast_mmcl.data import Stream, har_stream, omniglot_stream, spoken_digits_stream

SEEDS = (0, 1, 2, 3, 4)
FEWER = SEEDS[:3]

ACCURACY = (
    ("last_accuracy", "accuracy at the end", "%"),
    ("average_incremental_accuracy", "average incremental accuracy", "%"),
    ("forgetting", "forgetting", "%"),
)
WEIGHTS = ("ewc", "mas")
REPLAY = ("er", "derpp", "icarl")
# What a run is read against, in every table.
BOUNDS = ("finetune", "joint")


@dataclass(frozen=True)
class Show:
    """One stream and everything that is run on it.

    folder    name of the result folder; title: of its table; text and notes: its prose
    stream    function of (held_out, seed); held_out is "test" or "validation"
    methods   lines of the table (`shows_lines.LINES`)
    capacity  rows of the memories; hyper: {recipe: arguments} of this stream
    model     function of (line, stream, seed); None: the small model of `train.default_model`
    """

    folder: str
    title: str
    text: str
    stream: Callable[[str, int], Stream]
    methods: tuple[str, ...]
    epochs: int
    capacity: int
    lr: float = 1e-3
    batch_size: int = 32
    seeds: tuple[int, ...] = FEWER
    columns: tuple[tuple[str, str, str], ...] = ACCURACY
    table: str = "Methods"
    hyper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    model: Callable[[Line, Stream, int], nn.Module] | None = None
    packages: tuple[str, ...] = ("torch", "numpy")
    notes: tuple[str, ...] = ()


def har(scenario: str) -> Callable[[str, int], Stream]:
    return lambda held_out, seed: har_stream(scenario, held_out=held_out, seed=seed)


def digits(scenario: str) -> Callable[[str, int], Stream]:
    return lambda held_out, seed: spoken_digits_stream(scenario, held_out=held_out, seed=seed)


def drawings(scenario: str) -> Callable[[str, int], Stream]:
    return lambda held_out, seed: omniglot_stream(scenario, held_out=held_out, seed=seed)


_HAR = "Activities seen by four phone and watch sensors, 12 people trained on and 6 others tested on"
_DIGITS = "MNIST images paired with spoken digits, four speakers"

_ALL = (
    Show(
        folder="shows-har-cil",
        title="HAR, activities (CIL)",
        text=f"{_HAR}: two tasks of two and three activities, one head, no task id.",
        stream=har("cil"),
        methods=(*BOUNDS, *WEIGHTS, *REPLAY),
        epochs=5,
        capacity=60,
        seeds=SEEDS,
    ),
    Show(
        folder="shows-har-dil",
        title="HAR, groups of people (DIL)",
        text=f"{_HAR}: three groups of people, all activities in each.",
        stream=har("dil"),
        methods=(*BOUNDS, *WEIGHTS, *REPLAY),
        epochs=5,
        capacity=60,
        seeds=SEEDS,
    ),
    Show(
        folder="shows-digits-cil",
        title="image+audio digits (CIL)",
        text=f"{_DIGITS}: two digits per task, one head, no task id.",
        stream=digits("cil"),
        methods=(*BOUNDS, *WEIGHTS, *REPLAY),
        epochs=5,
        capacity=150,
        lr=3e-3,
    ),
    Show(
        folder="shows-omniglot-cil",
        title="Omniglot image+stroke (CIL)",
        text=(
            "Drawings of characters and the pen strokes that drew them: one alphabet per task (20 to 40 characters, 14 "
            "drawings of each), other people tested on, one head, no task id."
        ),
        stream=drawings("cil"),
        methods=(*BOUNDS, *WEIGHTS, *REPLAY, "samm"),
        epochs=10,
        capacity=272,
        lr=3e-3,
    ),
)
SHOWS = {show.title: show for show in _ALL}
