"""A stream seen once through frozen encoders: its rows become the embeddings of their modalities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch, Records, Stream
from pyfast_mmcl.data.stream import SPLITS
from pyfast_mmcl.models import Output
from pyfast_mmcl.train.isolate import choose_device, isolated

_ROWS = 512


@torch.no_grad()
def frozen_features(
    stream: Stream, model: nn.Module, *, device: torch.device | str | None = None, threads: int | None = 1
) -> Stream:
    """The same tasks, splits, targets and presence, with ``model``'s embedding [D] in place of every modality.

    ``features[m][n] = model(row n).modalities[m]``, in evaluation mode, float32 on the CPU, row n as the stream has it

    Encoders that stay as they are need to see a row once: every method then learns on features at the price of a small
    model, and a generator makes up features in place of pictures and words. Task ids and targets are hidden from the
    model. Raises InputError for a model that gives no embedding per modality.
    """
    place, rows = choose_device(device), torch.arange(len(stream.task_of))
    training, columns, shown = model.training, [], []
    target: list[Tensor] = []
    with isolated(place, threads):
        model.to(place).eval()
        for some in rows.split(_ROWS):
            inputs, present, answers = stream.gather(some)
            hidden = torch.full_like(answers, -1)
            batch = Batch(inputs, hidden, torch.full_like(some, -1), present, some).to(place)
            columns.append({name: x.float().cpu() for name, x in _embeddings(model, batch).items()})
            shown.append(present)
            target.append(answers)
        model.train(training)
    features = {name: torch.cat([some[name] for some in columns]) for name in columns[0]}
    present = {name: torch.cat([some[name] for some in shown]) for name in features}
    return Stream(
        Records(features, torch.cat(target)),
        stream.scenario,
        stream.task_of,
        _split_of(stream),
        present=present,
        task_names=[task.name for task in stream.tasks],
        class_names=stream.class_names,
        objective=stream.objective,
    )


def _split_of(stream: Stream) -> Tensor:
    """[N]: the place of every row's split in SPLITS, −1 for rows that no task uses."""
    places = torch.full_like(stream.task_of, -1)
    for task in stream.tasks:
        for place, split in enumerate(SPLITS):
            places[stream.rows(task.id, split)] = place
    return places


def _embeddings(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    out = model(batch)
    found = out.modalities if isinstance(out, Output) else {}
    if set(found) != set(batch.inputs):
        raise InputError(
            f"frozen features: expected a model that gives an embedding of each modality {sorted(batch.inputs)}, got "
            f"{sorted(found)}; return Output(scores, modalities={{…}})."
        )
    return found
