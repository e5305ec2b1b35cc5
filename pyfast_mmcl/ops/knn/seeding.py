"""Rows drawn as k-means++ draws them, in many parts of a table at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..._errors import InputError
from .._backend import Candidate, choose
from . import _native_knn


def draw_in_parts(
    x: Tensor,  # [N, D] float32 on the CPU, the rows of a part one after the other
    weights: np.ndarray,  # [N] float64
    cost: np.ndarray,  # [N] float64
    starts: np.ndarray,  # [P + 1] int64
    draws: np.ndarray,  # [P + 1] int64
    uniform: np.ndarray,  # [S, T] float64
    *,
    backend: str = "auto",
) -> np.ndarray:
    """Draw rows of part p one by one with probability ∝ weight · cost; the best of T drawn rows is kept.

    ``i = searchsorted(cumsum(w · cost), u · sum)``; kept is the i with the largest ``(w · (cost − new)).sum()``, where
    ``new = minimum(cost, ((x − x[i]) ** 2).sum(-1))`` over the rows of the part, and ``cost`` becomes its ``new``.

    Args:
        x: finite rows.
        weights: how much a row counts, ≥ 0.
        cost: squared distance of a row to the nearest centre so far; falls in place.
        starts: rows ``starts[p]`` to ``starts[p + 1]`` are part p.
        draws: part p makes the draws ``draws[p]`` to ``draws[p + 1]``.
        uniform: in [0, 1), T numbers for every draw.
        backend: "auto" | "torch" | "native".

    Returns:
        int64 [S], the rows drawn; −1 once a part has no cost left. The same for any number of threads.

    Raises:
        InputError: x is not float32 on the CPU. BackendError: the backend is not there.

    Reference: Arthur and Vassilvitskii, *k-means++*, SODA 2007, with the greedy choice of section 6.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise InputError(f"x: expected float32 rows on the CPU, got {x.dtype} on {x.device}; convert them first.")
    options = [Candidate("native", lambda: _native_knn.usable(x)), Candidate("torch", lambda: (True, ""))]
    if choose("draw_in_parts", backend, options) == "native":
        return _native_knn.draw_in_parts(x, weights, cost, starts, draws, uniform)
    rows, chosen = x.double().numpy(), np.full(len(uniform), -1, dtype=np.int64)
    for part in range(len(starts) - 1):
        here = slice(starts[part], starts[part + 1])
        for draw in range(draws[part], draws[part + 1]):
            row = _draw(rows[here], weights[here], cost[here], uniform[draw])
            chosen[draw] = -1 if row is None else starts[part] + row
    return chosen


def _draw(x: np.ndarray, weights: np.ndarray, cost: np.ndarray, uniform: np.ndarray) -> int | None:
    """One row of a part, which lowers ``cost``; None without any cost."""
    running = np.cumsum(cost * weights)
    if len(running) == 0 or not running[-1] > 0:
        return None
    last = np.searchsorted(running, running[-1], side="left")
    candidates = np.minimum(np.searchsorted(running, uniform * running[-1], side="right"), last)
    new = [np.minimum(cost, np.square(x - x[row]).sum(axis=1)) for row in candidates]
    best = int(np.argmax([((cost - now) * weights).sum() for now in new]))  # the first of equals
    cost[:] = new[best]
    cost[candidates[best]] = 0.0
    return int(candidates[best])
