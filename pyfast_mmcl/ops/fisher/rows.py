"""Rows of a batch of any make, and the usual ways to run a model on one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..._errors import InputError
from .shared import replace, tensors_in


def run_model(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """(outputs, target) of a batch: ``(inputs, target)``, or an object with ``inputs`` and ``target``.

    Inputs: a tensor; a tuple, spread over the positions; a dict, spread over the names. Outputs are the model's own,
    or their ``scores`` or ``logits``, by attribute or by key.
    """
    if _is_batch(batch):
        return _scores(model(batch)), batch.target
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise InputError(
            f"batches: expected pairs (inputs, target), got {type(batch).__name__}; "
            "pass forward=, a function (model, batch) that returns (outputs, target)."
        )
    inputs, target = batch
    if isinstance(inputs, dict):
        return _scores(model(**inputs)), target
    return _scores(model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)), target


def _scores(outputs: Any) -> Any:
    for name in ("scores", "logits"):
        found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(found, Tensor):
            return found
    return outputs


def count_rows(batch: Any) -> int | None:
    """How many samples a batch holds, or None when its tensors do not agree on that."""
    if _is_batch(batch):
        return len(batch)
    sizes = {t.shape[0] for t in tensors_in(_tree(batch)) if t.ndim}
    return sizes.pop() if len(sizes) == 1 else None


def take_rows(batch: Any, rows: list[int]) -> Any:
    """The samples ``rows`` of a batch whose `count_rows` is known; other mappings than dict become one."""
    if _is_batch(batch):
        return batch.select(torch.tensor(rows, device=getattr(batch, "device", None)))
    taken = replace(_tree(batch), lambda x: x[rows] if isinstance(x, Tensor) and x.ndim else x)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **taken)
    return taken


def _tree(batch: Any) -> Any:
    """The batch as nested tuples, lists and dicts."""
    if dataclasses.is_dataclass(batch):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return dict(batch) if isinstance(batch, Mapping) else batch


def sample_ids(batch: Any, samples: int, seen: int, rank: int, world: int) -> Tensor:
    """What label draws hang on: the batch's own ``index``, else the place in the stream, dealt to the ranks in turn."""
    own = getattr(batch, "index", None)
    if isinstance(own, Tensor):
        return own.detach().cpu().to(torch.int64)
    return (torch.arange(samples) + seen) * world + rank


def _is_batch(batch: Any) -> bool:
    return all(hasattr(batch, name) for name in ("inputs", "target", "select"))
