"""First in, first out: which ids of a sequence enter a queue that knows only the ids it holds."""

from __future__ import annotations

import numpy as np


def entering(held: np.ndarray, offered: np.ndarray, capacity: int) -> np.ndarray:
    """Positions of ``offered`` [B] that enter, one row after another: an id enters when the queue does not hold it.

    held: ids in the queue, oldest first, at most ``capacity``. Each row that enters a full queue pushes the oldest out.
    """
    entered = []
    start = 0
    while start < len(offered):
        rest = offered[start:]
        enters, stop = _segment(held, rest, capacity)
        entered.append(start + enters)
        held = np.concatenate([held, rest[enters]])[-capacity:]
        start += stop
    return np.concatenate(entered) if entered else np.zeros(0, dtype=np.int64)


def _segment(held: np.ndarray, rest: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
    """Rows that enter as far as no id returns that was pushed out meanwhile, and where that first happens."""
    ids, first, inverse = np.unique(rest, return_index=True, return_inverse=True)
    place = _places(held, ids)[inverse]
    is_first = first[inverse] == np.arange(len(rest))
    enters = (place < 0) & is_first
    before = np.cumsum(enters) - enters  # rows that entered before this one
    free = capacity - len(held)
    pushed_out = (place >= 0) & (before - free > place)
    pushed_out |= (place < 0) & ~is_first & (before > before[first[inverse]] + capacity)
    stop = int(pushed_out.argmax()) if pushed_out.any() else len(rest)
    return np.flatnonzero(enters[:stop]), stop


def _places(held: np.ndarray, ids: np.ndarray) -> np.ndarray:
    if len(held) == 0:
        return np.full(len(ids), -1)
    order = np.argsort(held)
    found = order[np.minimum(np.searchsorted(held, ids, sorter=order), len(held) - 1)]
    return np.where(held[found] == ids, found, -1)
