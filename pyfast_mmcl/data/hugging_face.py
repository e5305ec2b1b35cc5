"""Streams from the objects of Hugging Face ``datasets``; the package itself is not imported."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import roles
from pyfast_mmcl.data.audio import Source
from pyfast_mmcl.data.columns import Column, number_column, text_column
from pyfast_mmcl.data.files import READERS, Shapes
from pyfast_mmcl.data.manifest import KEEP, choose, columns_stream
from pyfast_mmcl.data.scenario import Scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.tokenize import Tokenize

_STORED = {"Image": "image", "Audio": "audio"}


def hugging_face_stream(
    dataset: Any,
    scenario: str | Scenario | None = None,
    n_tasks: int | None = None,
    *,
    target: str | None = None,
    task: str | None = None,
    modalities: Sequence[str] | None = None,
    image_size: int = 32,
    audio_seconds: float = 1.0,
    tokenize: Tokenize = "words",
    length: int = 16,
    keep: int = KEEP,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """The rows of a ``datasets.Dataset``, or of a ``DatasetDict`` with "train", "test" and perhaps "validation".

    target, task   columns of the class and of the task or domain, found by the names that ``manifest_stream`` finds.
                   The class names of a ClassLabel are kept in their order
    modalities     columns to use, default: all others. Image columns become [3, image_size, image_size] in [0, 1],
                   Audio columns with WAV files log-mel spectrograms, strings token ids, numbers and lists of numbers
                   vectors and arrays
    Everything else is as in ``manifest_stream``; None is a missing modality.

    Raises InputError for an object that cannot be indexed (streaming), has no such columns, or holds damaged files.
    """
    parts = _parts(dataset)
    columns = _same_columns(parts)
    names = {
        role: roles.find_column(role, given, list(columns)) for role, given in (("target", target), ("task", task))
    }
    where = [f"{split} row {i}" for split, part in parts.items() for i in range(len(part))]
    cells: dict[str, Any] = {
        role: (_cells(parts, name), where, name) for role, name in names.items() if name is not None
    }
    if len(parts) > 1:
        cells["split"] = ([split for split, part in parts.items() for _ in range(len(part))], where, "split")
    left = choose({name: f for name, f in columns.items() if name not in names.values()}, modalities)
    if not left:
        raise InputError(f"the dataset has no column of a modality among {list(columns)}; add one beside the target.")
    shapes = Shapes(image_size, audio_seconds)
    classes = getattr(columns.get(names["target"] or ""), "names", None)
    return columns_stream(
        [_column(parts, name, feature, where, shapes) for name, feature in left.items()],
        cells,
        scenario,
        n_tasks,
        class_names=classes,
        tokenize=tokenize,
        length=length,
        keep=keep,
        seed=seed,
        **dealing,
    )


def _parts(dataset: Any) -> dict[str, Any]:
    """The dataset by split; a single one is all "train" and split later."""
    parts = dict(dataset) if isinstance(dataset, Mapping) else {"train": dataset}
    for split, part in parts.items():
        if not all(hasattr(part, name) for name in ("features", "__len__", "__getitem__", "select_columns")):
            raise InputError(
                f"dataset: expected a datasets.Dataset with rows to index, got {type(part).__name__} for {split!r}; "
                f"load it without streaming."
            )
    found = {split: part for split, part in parts.items() if len(part)}
    if not found:
        raise InputError("dataset: expected at least one row, got an empty dataset.")
    return found


def _same_columns(parts: Mapping[str, Any]) -> dict[str, Any]:
    """{column: feature} of the first split. Raises InputError where another split has other columns."""
    first, *others = parts
    for split in others:
        if set(parts[split].features) != set(parts[first].features):
            raise InputError(
                f"dataset: {first} has columns {sorted(parts[first].features)}, {split} has "
                f"{sorted(parts[split].features)}; give all splits the same columns."
            )
    return dict(parts[first].features)


def _cells(parts: Mapping[str, Any], name: str) -> list[Any]:
    return [cell for part in parts.values() for cell in part[name]]


def _column(parts: Mapping[str, Any], name: str, feature: Any, where: Sequence[str], shapes: Shapes) -> Column:
    kind = _STORED.get(type(feature).__name__)
    if kind is None:
        cells = _cells(parts, name)
        if all(cell is None for cell in cells):
            raise InputError(f"column {name!r} is empty in every row; leave it out with modalities=.")
        texts = any(isinstance(cell, str) for cell in cells)
        return text_column(name, cells, where) if texts else number_column(name, {name: cells}, where)
    # Not decoded by datasets: a damaged file is then found here, where its row is known.
    stored = [part.select_columns([name]).cast_column(name, type(feature)(decode=False)) for part in parts.values()]
    present = torch.tensor([cell is not None for part in stored for cell in part[name]])
    if not bool(present.any()):
        raise InputError(f"column {name!r} is empty in every row; leave it out with modalities=.")
    return Column(name, kind, present, where, read=_reader(stored, name, kind, shapes))


def _reader(stored: Sequence[Any], name: str, kind: str, shapes: Shapes) -> Callable[[int], Tensor]:
    places = [(part, i) for part in stored for i in range(len(part))]

    def read(i: int) -> Tensor:
        part, row = places[i]
        return READERS[kind](_source(part[row][name]), shapes)

    return read


def _source(cell: Mapping[str, Any]) -> Source:
    return io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else Path(cell["path"])
