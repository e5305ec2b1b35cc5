"""`k_center`: rows such that no row is far from all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, whole_number
from ..knn._checks import as_rows, check_finite, check_pair
from ..knn.reference import accumulate
from . import _dispatch
from ._checks import check_squares, in_kind
from ._ordered import ordered_dot
from .herding import TIE as SCORE_TIE

# Squared distances of at least this share of the largest are told apart by their rounding alone.
TIE = 1 - 2.0**-42


def k_center(
    features: Any, m: int, *, first: int | None = None, centers: Any = None, backend: str = "auto"
) -> tuple[Any, float]:
    """Greedy farthest points: each pick is the row with the largest distance to the picks before it.

    ``j = argmax_j min_c ‖f_j − c‖``, c over the picks so far and the given ``centers``. The radius that remains is at
    most twice the best possible one.

    Distances are float64 sums of squared differences in an order that is written down (`ordered_dot`): the picks do
    not depend on threads or device.

    Args:
        features: rows [N, D], torch or NumPy, float32, float16, bfloat16 or float64, finite.
        m: picks, ≥ 0; more than N give N.
        first: row to begin with, where there are no ``centers``; default the row nearest to the mean.
        centers: points [C, D] that are centres already, for instance the old rows of a memory; of another dtype than
            ``features``, both are compared as float32 (float64 goes with float64 alone).
        backend: "auto" | "torch" | "native".

    Returns:
        (indices int64 [min(m, N)] in the order of picking, ties to the smaller index; radius, the largest distance
        from a row to its nearest centre, infinite where there is no centre, 0 where there are no rows).

    Raises:
        InputError: wrong shape, dtype or device; NaN, infinity or squared norms that overflow; ``first`` that is no
            row, or beside ``centers``.

    Reference: Gonzalez, Clustering to minimize the maximum intercluster distance, TCS 1985.
    """
    rows = as_rows(features, "features").contiguous()
    n = rows.shape[0]
    picks = min(whole_number("m", m, least=0), n)
    if first is not None and whole_number("first", first, least=0) >= n:
        raise InputError(f"first: expected a row below {n}, got {first}.")
    known = None if centers is None else _check_centers(centers, rows)
    if first is not None and known is not None:
        raise InputError("first: expected either first or centers, got both; add the row to the centers.")
    if n == 0:
        return in_kind(torch.zeros(0, dtype=torch.int64, device=rows.device), features), 0.0
    if known is not None and known.dtype != rows.dtype:  # float16 cannot hold the others' values
        rows, known = rows.float(), known.float()
    indices, radius = _dispatch.implementation("k_center", backend, rows).k_center(rows, picks, first, known)
    return in_kind(indices, features), radius


def _check_centers(centers: Any, rows: Tensor) -> Tensor | None:
    known = as_rows(centers, "centers")
    check_pair(rows, known, "features", "centers")
    check_finite(known, "centers")
    wide = known.double()
    check_squares(ordered_dot(wide, wide), "centers", torch.arange(len(wide), device=wide.device))
    return known.contiguous() if len(known) else None


def k_center_reference(
    features: Tensor, m: int, first: int | None = None, centers: Tensor | None = None
) -> tuple[Tensor, float]:
    """Picks [m] and radius in float64 torch; N ≥ 1, m ≤ N."""
    check_finite(features, "features")
    rows = features.double()
    check_squares(len(rows) * ordered_dot(rows, rows), "features", torch.arange(len(rows), device=rows.device))
    nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
    for center in [] if centers is None else centers.double():
        nearest = torch.minimum(nearest, _squared_distance(rows, center))
    taken = torch.zeros_like(nearest, dtype=torch.bool)
    indices = torch.zeros(m, dtype=torch.int64, device=rows.device)
    for k in range(m):
        if k > 0 or centers is not None:
            gap = nearest.masked_fill(taken, -1)
            pick = (gap >= gap.max() * TIE).to(torch.int8).argmax()  # the first that ties
        else:
            pick = torch.tensor(first, device=rows.device) if first is not None else _nearest_mean(rows)
        indices[k], taken[pick] = pick, True
        nearest = torch.minimum(nearest, _squared_distance(rows, rows[pick]))
    return indices, float(nearest.max().sqrt())


def _nearest_mean(rows: Tensor) -> Tensor:
    """The first pick of `herding`: n‖f‖² − 2 f·T is smallest, T the sum of all rows."""
    everyone = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    whole = accumulate(rows, everyone, 1)[0][0]
    constant = len(rows) * ordered_dot(rows, rows)
    score = constant - 2 * ordered_dot(rows, whole)
    return (score <= score.min() + SCORE_TIE * constant.max()).to(torch.int8).argmax()


def _squared_distance(rows: Tensor, center: Tensor) -> Tensor:
    gap = rows - center
    return ordered_dot(gap, gap)
