"""One row of the table of shows: a stream and everything that is run on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pyfast_mmcl.data import Stream
from pyfast_mmcl.train.evaluation import Measure

SEEDS = (0, 1, 2, 3, 4)
FEWER = SEEDS[:3]

ACCURACY = (
    ("last_accuracy", "accuracy at the end", "%"),
    ("average_incremental_accuracy", "average incremental accuracy", "%"),
    ("forgetting", "forgetting", "%"),
)
# What a run is read against, in every table.
BOUNDS = ("finetune", "joint")


@dataclass(frozen=True)
class Show:
    """One stream and everything that is run on it.

    folder    name of the result folder; title: of its table; text and notes: its prose
    stream    function of (held_out, seed); held_out is "test" or "validation"
    methods   lines of the table (`shows_lines.LINES`)
    capacity  rows of the memories
    clip      whether everything starts from a pretrained CLIP; else from the small model of `train.default_model`
    measure   what the accuracy matrix holds, where that is not what the stream asks for (`train.evaluation`)
    model     function of the stream that makes the model; None: `train.default_model`
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
    config: Mapping[str, Any] = field(default_factory=dict)
    clip: bool = False
    measure: Measure | None = None
    model: Callable[[Stream], nn.Module] | None = None
    packages: tuple[str, ...] = ("torch", "numpy")
    notes: tuple[str, ...] = ()
