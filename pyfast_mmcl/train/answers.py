"""What the model says about many rows, and values worked out from it that hold until a weight changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.modes import evaluation_mode

if TYPE_CHECKING:
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

Value = TypeVar("Value")
_ROWS = 512


@torch.no_grad()
def collect(
    learner: Learner, batches: Iterable[Batch], pick: Callable[[Batch, Output], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """``pick(batch, out)`` of every batch, joined by name; the model is in evaluation mode meanwhile."""
    found = []
    with evaluation_mode(learner.model):
        for batch in batches:
            batch = batch.to(learner.device)
            found.append(pick(batch, learner.forward(batch)))
    return {name: torch.cat([some[name] for some in found]) for name in (found[0] if found else ())}


def in_slices(rows: Batch) -> Iterator[Batch]:
    """``rows`` in batches of 512: what a memory holds may be more than a device takes at once."""
    return (rows.select(slice(start, start + _ROWS)) for start in range(0, len(rows), _ROWS))


def features_of(method: str, out: Output) -> Tensor:
    """Unit features [B, D] of an output. Raises InputError when the model gives none."""
    if out.features is None:
        raise InputError(f"{method}: expected a model that gives features, got none; return Output(scores, features).")
    return F.normalize(out.features.float(), dim=-1)


def class_means(rows: Tensor, target: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Means [C, D] of the rows of every class, of length 1, and which classes have any, bool [C]; summed in float64."""
    sums = torch.zeros(n_classes, rows.shape[1], dtype=torch.float64, device=rows.device)
    sums.index_add_(0, target, rows.double())
    known = torch.zeros(n_classes, dtype=torch.bool, device=rows.device)
    known[target] = True
    return F.normalize(sums, dim=1).to(rows.dtype), known


class WhileUnchanged(Generic[Value]):
    """A value worked out from the weights of a model, kept until one of them changes or ``forget`` is called."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[int, ...], Value] | None = None

    def get(self, learner: Learner, make: Callable[[], Value]) -> Value:
        # Writing to a tensor in place, as optimizers and load_state_dict do, moves its version on.
        tensors = (*learner.model.parameters(), *learner.model.buffers())
        now = (learner.step, *(x._version for x in tensors))
        if self._kept is None or self._kept[0] != now:
            self._kept = (now, make())
        return self._kept[1]

    def forget(self) -> None:
        self._kept = None
