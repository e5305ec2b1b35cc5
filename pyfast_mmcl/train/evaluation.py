"""How well a method answers: one number in [0, 1] per task, of the kind that the stream asks for or the user gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.data import Batch, Loader
from pyfast_mmcl.metrics.answers import token_accuracy
from pyfast_mmcl.metrics.continual import accuracy
from pyfast_mmcl.metrics.retrieval import recall_at_k
from pyfast_mmcl.models import Output
from pyfast_mmcl.train.pairs import are_pairs, pair_labels, two_sides

# Rows of a task with what was answered for them, on the CPU. ``out.scores`` are those of the method.
Answers = Iterable[tuple[Batch, Output]]
Measure = Callable[[Answers], float]


def class_accuracy(answers: Answers) -> float:
    """Share of rows whose best score is the target; of a generated answer all tokens must be right."""
    return accuracy((out.scores, batch.target) for batch, out in answers)


def share_of_tokens(answers: Answers) -> float:
    """Share of right tokens in generated answers, padding left out (``metrics.answers.token_accuracy``)."""
    return token_accuracy((out.scores, batch.target) for batch, out in answers)


def pair_recall(answers: Answers) -> float:
    """R@1 from either side to the other over the rows that have both, the mean of the two directions.

    Rows of one target answer each other: the pictures of a name, the captions of an image.
    """
    there, back = pair_recalls(answers).values()
    return (there + back) / 2


def pair_recalls(answers: Answers) -> dict[str, float]:
    """{"<one side> to <other>": R@1} in both directions. Raises InputError where no row has both sides."""
    sides: list[tuple[Tensor, Tensor, Tensor]] = []
    names: list[str] = []
    for batch, out in answers:
        v, t = two_sides(out)
        there, names = are_pairs(batch, out), list(out.modalities)
        sides.append((v[there], t[there], batch.target[there]))
    if not sum(len(target) for _, _, target in sides):
        raise InputError("recall of pairs: no test row has both sides; give the stream rows that do.")
    v, t, target = (torch.cat(column) for column in zip(*sides, strict=True))
    labels = pair_labels(target)
    ways = {f"{names[0]} to {names[1]}": (v, t), f"{names[1]} to {names[0]}": (t, v)}
    return {way: recall_at_k(a.float(), b.float(), labels, k=1)[1] for way, (a, b) in ways.items()}


MEASURES: dict[str, Measure] = {
    "accuracy": class_accuracy,
    "recall_at_1": pair_recall,
    "token_accuracy": share_of_tokens,
}
_OF_OBJECTIVE = {"classify": "accuracy", "pairs": "recall_at_1"}


def measure_for(measure: str | Measure | None, objective: str) -> Measure:
    """The measure asked for by name or given as a function; by default the one of the stream's objective."""
    if callable(measure):
        return lambda answers: _number(measure(answers))
    name = _OF_OBJECTIVE[objective] if measure is None else measure
    if not isinstance(name, str) or name not in MEASURES:
        raise unknown_name("measure", name, MEASURES)
    return MEASURES[name]


def _number(value: Any) -> float:
    """What a user's measure gave. Raises InputError for what is no number."""
    if isinstance(value, Tensor | np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, int | float):
        raise InputError(f"measure: expected the function to return one number, got {type(value).__name__}.")
    return float(value)


def shown_measure(measure: str | Measure | None, objective: str) -> str:
    """What the accuracy matrix of a run holds, by name."""
    return measure_name(measure) or _OF_OBJECTIVE[objective]


def measure_name(measure: str | Measure | None) -> str | None:
    """What a checkpoint says about the measure: its name, or that of the user's function."""
    return measure if measure is None or isinstance(measure, str) else getattr(measure, "__qualname__", repr(measure))


def answered(loader: Loader, answer: Callable[[Batch], Output]) -> Answers:
    """The rows of ``loader`` with what ``answer`` says about them, on the CPU."""
    return ((batch, answer(batch).to("cpu")) for batch in loader)


def by_modality(
    loader: Loader, answer: Callable[[Batch], Output], measure: Measure, objective: str
) -> dict[str, float]:
    """{modality: measure of the rows that have it, answered from it alone}; NaN where no row has it.

    Of pairs, which need both sides: {"<one side> to <other>": R@1}.
    """
    if objective == "pairs":
        return pair_recalls(answered(loader, answer))
    return {m: _or_nan(measure, list(_from_one(loader, answer, m))) for m in loader[0].inputs}


def _from_one(loader: Loader, answer: Callable[[Batch], Output], modality: str) -> Iterator[tuple[Batch, Output]]:
    for batch in loader:
        rows = alone(batch, modality)
        if len(rows):
            yield rows, answer(rows).to("cpu")


def _or_nan(measure: Measure, answers: list[tuple[Batch, Output]]) -> float:
    return measure(answers) if answers else math.nan


def alone(batch: Batch, modality: str) -> Batch:
    """The rows that carry ``modality``, with all other modalities taken away."""
    rows = batch.select(batch.present[modality])
    inputs = {m: x if m == modality else torch.zeros_like(x) for m, x in rows.inputs.items()}
    present = {m: p & (m == modality) for m, p in rows.present.items()}
    return replace(rows, inputs=inputs, present=present)
