"""`balanced_allocation`: how many rows each group gets of a memory's capacity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, whole_number
from ._checks import check_index, check_weights, in_kind


def balanced_allocation(counts: Any, capacity: int, *, weights: Any = None) -> Any:
    """Rows per group: equal shares, or shares proportional to ``weights``, never above ``counts``.

    The seats s = 1 … counts[g] of all groups are put in order of ((s − ½) / weights[g], s, g); the first ``capacity``
    of them are given: water is filled up to one level, and what is left goes to the smaller group numbers.

    Because seats are handed out in one fixed order, a group's share only sinks when rows or groups are added, and
    grows only while all its rows are kept. A memory that keeps the best rows of every share therefore is a function
    of the set of rows offered, and memories of shards merge into that of the whole. Class, task and (task, class)
    balance are this with other group numbers.

    Args:
        counts: rows offered per group [G], integers ≥ 0, torch or NumPy.
        capacity: rows to keep, ≥ 0.
        weights: share of each group [G], finite and ≥ 0, default equal; groups of weight 0 get only what the others
            leave.

    Returns:
        int64 [G], of the kind and on the device of ``counts``; the sum is min(capacity, counts.sum()).

    Raises:
        InputError: wrong dtype or shape, counts that are negative or sum to 2⁶² or more, weights that are
            negative or not finite.

    Reference: Webster's method of apportionment; Balinski & Young, Fair Representation, 1982.
    """
    rows = check_index(counts, "counts")
    if bool((rows < 0).any()):
        raise InputError(f"counts: expected numbers of at least 0, got {int(rows.min())}.")
    if float(rows.double().sum()) >= 2.0**62:
        raise InputError(f"counts: expected a sum below 2**62, got {float(rows.double().sum()):.3g}; divide them.")
    left = min(whole_number("capacity", capacity, least=0), int(rows.sum()))
    if weights is None:
        return in_kind(equal_shares(rows, left), counts)
    share = check_weights(weights, "weights", rows)
    with_weight = torch.where(share > 0, rows, torch.zeros_like(rows))
    given = _weighted_shares(with_weight, share, min(left, int(with_weight.sum())))
    rest = torch.where(share > 0, torch.zeros_like(rows), rows)
    return in_kind(given + equal_shares(rest, left - int(given.sum())), counts)


def equal_shares(counts: Tensor, capacity: int) -> Tensor:
    """The first ``capacity`` ≤ counts.sum() seats in order of (s, g)."""
    if counts.numel() == 0:
        return counts.clone()
    ascending = counts.sort().values
    groups = torch.arange(len(counts), 0, -1, device=counts.device)
    # Seats given once the level stands at the size of each group in turn: all smaller groups are full.
    filled = ascending.cumsum(0) - ascending + ascending * groups
    full = int((filled <= capacity).sum())
    if full == len(counts):
        return counts.clone()
    below = int(ascending[:full].sum())
    level = (capacity - below) // (len(counts) - full)
    given = counts.clamp(max=level)
    return _hand_out(given, counts > level, capacity)


def _hand_out(given: Tensor, wants: Tensor, capacity: int) -> Tensor:
    """One more seat for the first groups of ``wants``, as many as are left."""
    rank = wants.cumsum(0)
    return given + (wants & (rank <= capacity - int(given.sum())))


def _weighted_shares(counts: Tensor, weights: Tensor, capacity: int) -> Tensor:
    """The first ``capacity`` ≤ counts.sum() seats in order of ((s − ½)/w, s, g); counts are 0 where w is."""
    if capacity == 0:
        return torch.zeros_like(counts)
    w = torch.where(counts > 0, weights, torch.ones_like(weights))
    # The order of positive float64 numbers is that of their bits: bisect the level of the last seat exactly.
    low, high = -1, 0x7FF0000000000000
    while high - low > 1:
        middle = (low + high) // 2
        if int(_seats(counts, w, middle).sum()) >= capacity:
            high = middle
        else:
            low = middle
    given = _seats(counts, w, low) if low >= 0 else torch.zeros_like(counts)
    return _share_level(given, _seats(counts, w, high), capacity)


def _share_level(given: Tensor, most: Tensor, capacity: int) -> Tensor:
    """Seats given + 1 … most of every group are of the same level: the smaller s first, then the smaller group.

    A group has several where (s − ½)/w is infinite, as it is for weights near the smallest number.
    """
    low, high = 0, int(most.max())
    while low < high:
        middle = (low + high + 1) // 2
        if int(torch.minimum(given.clamp(min=middle), most).sum()) <= capacity:
            low = middle
        else:
            high = middle - 1
    filled = torch.minimum(given.clamp(min=low), most)
    return _hand_out(filled, (given <= low) & (most > low), capacity)


def _seats(counts: Tensor, weights: Tensor, level_bits: int) -> Tensor:
    """Seats s ≤ counts with (s − ½)/w ≤ the level, in float64 as written."""
    level = torch.tensor(level_bits, device=counts.device).view(torch.float64)
    limit = counts.to(torch.float64)
    guess = torch.minimum((level * weights).nan_to_num(nan=0.0, posinf=torch.inf) + 0.5, limit).floor()
    # The product is rounded otherwise than the quotient: look at the seats beside the guess.
    for _ in range(2):
        guess = torch.where((guess > 0) & ((guess - 0.5) / weights > level), guess - 1, guess)
    for _ in range(2):
        guess = torch.where((guess < limit) & ((guess + 0.5) / weights <= level), guess + 1, guess)
    return guess.to(torch.int64)
