"""The order of tasks and classes: as they come, reversed, shuffled by a seed, or any permutation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.ops.sampling import fold_seed, reservoir_keys

Order = str | Sequence[int] | Tensor | None
Item = TypeVar("Item")

_NAMED = ("given", "reversed", "shuffled")
# Place of a shuffle in the tree of seeds, beside those of the splits.
_SHUFFLE = 3


def permutation(name: str, order: Order, n: int, seed: int) -> Tensor:
    """int64 [n]: which of n things comes first, second, …

    order: None or "given", "reversed", "shuffled" (by the hash keys of the seed), or a permutation of 0…n−1. Raises
    InputError or UnknownNameError, which call the argument ``name``.
    """
    if isinstance(order, str):
        if order not in _NAMED:
            raise unknown_name(name, order, _NAMED)
        if order == "shuffled":
            return reservoir_keys(fold_seed(seed, _SHUFFLE), torch.arange(n)).argsort()
        return torch.arange(n).flip(0) if order == "reversed" else torch.arange(n)
    try:
        chosen = torch.arange(n) if order is None else torch.as_tensor(order)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: expected numbers or one of {', '.join(_NAMED)}, got {order!r}.") from error
    if chosen.ndim != 1 or chosen.is_floating_point() or sorted(chosen.tolist()) != list(range(n)):
        raise InputError(f"{name}: expected a permutation of 0…{n - 1}, got {chosen.tolist()}.")
    return chosen.to(torch.int64)


def in_order(name: str, things: Sequence[Item], order: Tensor) -> list[Item]:
    """``things``, one per task, in the order of the tasks. Raises InputError for another number of them."""
    if isinstance(things, str) or not (hasattr(things, "__len__") and hasattr(things, "__getitem__")):
        raise InputError(f"{name}: expected a list of {len(order)}, one per task, got {things!r}.")
    if len(things) != len(order):
        raise InputError(f"{name}: expected {len(order)}, one per task, got {len(things)}.")
    return [things[t] for t in order.tolist()]
