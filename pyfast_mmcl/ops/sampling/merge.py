"""`merge_reservoir`: the best rows of everything offered, from keys alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, whole_number
from ..knn._checks import as_tensor
from ._checks import REALS, check_index, in_kind
from .balance import equal_shares


def merge_reservoir(keys: Any, index: Any, capacity: int, *, groups: Any = None) -> Any:
    """Positions of the ``capacity`` largest keys, best first, each example id once, ties by smaller id.

    Without groups: ``sorted(range(N), key=lambda i: (-keys[i], index[i]))[:capacity]`` of the first row of every id.
    With groups: `balanced_allocation` of the ids per group, then the largest keys of every group.

    The result of shards merged is the result of the whole, with groups too, for any cut into shards and any order:
    what a shard drops would not have been kept.

    Args:
        keys: [N], int64 of `reservoir_keys` or float of `weighted_keys` (no NaN), torch or NumPy.
        index: example ids [N], integers. An id that occurs more than once counts once, with its largest key.
        capacity: rows to keep, ≥ 0.
        groups: group number per row [N], any integers; a property of the id. Smaller numbers get the rest.

    Returns:
        int64 positions [min(capacity, different ids)], in order of (key descending, id).

    Raises:
        InputError: wrong dtype, shape or device; a key that is NaN.

    Reference: docs/kernels.md, "Sampling".
    """
    rank = check_keys(keys)
    ids = check_index(index, "index", rank)
    room = whole_number("capacity", capacity, least=0)
    if groups is None:
        return in_kind(largest(rank, ids, room), keys)
    names = check_index(groups, "groups", rank)
    order = largest(rank, ids, len(ids))
    return in_kind(order[within_shares(names[order], room)], keys)


def check_keys(keys: Any) -> Tensor:
    """Keys as int64, or float64 without NaN, [N]."""
    t = as_tensor(keys, "keys")
    if t.ndim != 1 or t.dtype not in (torch.int64, *REALS):
        raise InputError(f"keys: expected int64 or float keys of shape [N], got {t.dtype} {list(t.shape)}.")
    if t.dtype == torch.int64:
        return t
    if bool(t.isnan().any()):
        raise InputError("keys: expected numbers, found NaN; keys come from reservoir_keys or weighted_keys.")
    return t.to(torch.float64)


def in_order(keys: Tensor, index: Tensor) -> Tensor:
    """Positions in order of (key descending, id, position)."""
    by_id = index.argsort(stable=True)
    return by_id[keys[by_id].argsort(descending=True, stable=True)]


def first_of_each(ids: Tensor) -> Tensor:
    """bool [N]: whether no earlier row has the same id."""
    order = ids.argsort(stable=True)
    named = ids[order]
    first = torch.ones_like(named, dtype=torch.bool)
    first[1:] = named[1:] != named[:-1]
    return torch.zeros_like(first).index_copy(0, order, first)


def largest(keys: Tensor, ids: Tensor, capacity: int) -> Tensor:
    """Positions of the ``capacity`` best rows of different ids, best first."""
    if 4 * capacity < len(keys):
        found = _among_the_top(keys, ids, capacity)
        if found is not None:
            return found
    order = in_order(keys, ids)
    return order[first_of_each(ids[order])][:capacity]


def _among_the_top(keys: Tensor, ids: Tensor, capacity: int) -> Tensor | None:
    """As `largest`, sorting only the rows around the best; None where repeated ids leave too few of them."""
    if capacity == 0:
        return ids.new_zeros(0)
    bound = keys.topk(2 * capacity).values[-1]
    near = (keys >= bound).nonzero().flatten()
    order = near[in_order(keys[near], ids[near])]
    order = order[first_of_each(ids[order])]
    return order[:capacity] if len(order) >= capacity else None


def within_shares(groups: Tensor, capacity: int) -> Tensor:
    """bool [N]: rows (given best first) that lie within the equal share of their group."""
    _, member, counts = groups.unique(return_inverse=True, return_counts=True)
    quota = equal_shares(counts, min(capacity, len(groups)))
    return rank_in_group(member, counts) < quota[member]


def rank_in_group(member: Tensor, counts: Tensor) -> Tensor:
    """int64 [N]: how many earlier rows belong to the same group; ``member`` counts groups from 0."""
    order = member.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(member), device=member.device) - starts[member[order]]
    return torch.zeros_like(rank).index_copy(0, order, rank)
