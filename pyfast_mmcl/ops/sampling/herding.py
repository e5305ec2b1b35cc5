"""`herding`: exemplars whose running mean follows the mean of all rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, whole_number
from ..knn._checks import as_rows, check_finite, check_flag
from ..knn.reference import accumulate
from . import _dispatch
from ._checks import check_index, check_squares, in_kind
from ._ordered import ordered_dot, unit_rows

# Scores closer than this, times k·n·max‖f‖², are told apart by their rounding alone.
TIE = 2.0**-44


def herding(features: Any, m: int, *, groups: Any = None, normalize: bool = False, backend: str = "auto") -> Any:
    """Greedy mean matching: pick k is the row that brings the mean of the first k picks nearest to the mean of all.

    ``j_k = argmin_j ‖μ − (S + f_j)/k‖ = argmin_j ‖f_j‖² + 2 f_j·(S − kμ)``, S = sum of the picks so far.

    Sums are float64 in an order that is written down (rows in order; `ordered_dot`): the picks do not depend on
    threads, device or the other groups. The first m of a longer order are the order of m.

    Args:
        features: rows [N, D], torch or NumPy, float32, float16, bfloat16 or float64, finite.
        m: picks (per group), ≥ 0.
        groups: group number of each row [N], integers ≥ 0, for one order per group, all at once.
        normalize: divide rows by their length first, as iCaRL does (a row of zeros stays zero).
        backend: "auto" | "torch" | "native".

    Returns:
        int64 order: [min(m, N)], or with groups [G, m] for the groups 0 … G−1 = groups.max(), padded with −1. Equal
        scores: the smaller index.

    Raises:
        InputError: wrong shape, dtype or device; NaN, infinity or squared norms that overflow; a negative group.

    Reference: Welling, Herding dynamical weights to learn, ICML 2009; Rebuffi et al., iCaRL, CVPR 2017, algorithm 4.
    """
    rows = as_rows(features, "features")
    picks = whole_number("m", m, least=0)
    check_flag(normalize, "normalize")
    parts: tuple[Tensor, ...] = ()
    sizes = [rows.shape[0]]
    if groups is not None:
        parts = _in_groups(check_index(groups, "groups", rows))
        sizes = parts[1].diff().tolist()
    longest = min(picks, max(sizes, default=0))
    order = torch.full((len(sizes), picks), -1, device=rows.device)
    if longest > 0:
        rows = unit_rows(rows.double()) if normalize else rows.contiguous()
        order[:, :longest] = _dispatch.implementation("herding", backend, rows).herding(rows, longest, *parts)
    return in_kind(order[0, :longest] if groups is None else order, features)


def _in_groups(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the groups 0 … G−1 one after another [N], ascending in each, and where each begins [G + 1]."""
    if bool((groups < 0).any()):
        raise InputError(f"groups: expected numbers of at least 0, got {int(groups.min())}.")
    ends = groups.bincount().cumsum(0)
    return groups.argsort(stable=True), torch.cat([ends.new_zeros(1), ends])


def herding_reference(features: Tensor, m: int, rows: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """Orders [G, m] padded with −1, in float64 torch; group g is ``rows[offsets[g] : offsets[g + 1]]``.

    The score is multiplied by the n rows of the group, ``n‖f_j‖² + 2 f_j·(nS − kT)`` with T their sum: without a
    division, rows of integers are ranked in exact arithmetic. Scores up to the smallest + 2⁻⁴⁴·k·n·max‖f‖² tie.
    """
    check_finite(features, "features")
    live = torch.arange(len(features), device=features.device) if rows is None else rows
    f = features.double()[live]
    sizes = f.new_tensor([len(f)], dtype=torch.int64) if offsets is None else offsets.diff()
    groups = len(sizes)
    member = torch.repeat_interleave(torch.arange(groups, device=f.device), sizes)
    whole = accumulate(f, member, groups)[0]
    total = torch.zeros_like(whole)
    constant = sizes[member] * ordered_dot(f, f)
    check_squares(constant, "features", live)
    slack = TIE * _by_group(constant, member, groups, 0.0, "amax")
    order = torch.full((groups, m), -1, device=f.device)
    full = sorted(set(sizes.tolist()))
    for k in range(1, m + 1):
        if k - 1 in full:  # groups without a row left to pick
            keep = sizes[member] >= k
            live, f, member, constant = live[keep], f[keep], member[keep], constant[keep]
        target = sizes[:, None] * total - k * whole
        score = constant + 2 * ordered_dot(f, target if groups == 1 else target[member])
        least = _by_group(score, member, groups, torch.inf, "amin") + k * slack
        place = torch.where(score <= least[member], torch.arange(len(score), device=f.device), len(score))
        place = _by_group(place, member, groups, len(live), "amin")
        chosen = place < len(live)
        place = place[chosen]
        order[chosen, k - 1] = live[place]
        total[chosen] += f[place]
        constant = constant.index_fill(0, place, torch.inf)  # picked
    return order


def _by_group(values: Tensor, member: Tensor, groups: int, empty: float, reduce: str) -> Tensor:
    """The largest or smallest value of each group [G], ``empty`` for a group without rows."""
    start = torch.full((groups,), empty, dtype=values.dtype, device=values.device)
    return start.scatter_reduce(0, member, values, reduce)
