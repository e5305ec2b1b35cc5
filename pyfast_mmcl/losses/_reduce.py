"""From per-row losses to what the caller asked for."""

from __future__ import annotations

from torch import Tensor

from pyfast_mmcl._errors import unknown_name

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> str:
    """One of the three names; an unknown one lists the nearest."""
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)
    return reduction


def reduce_rows(rows: Tensor, reduction: str) -> Tensor:
    """Mean or sum over the rows, or the rows themselves; the mean of no rows is 0."""
    if reduction == "none":
        return rows
    total = rows.sum()
    return total / max(rows.numel(), 1) if reduction == "mean" else total
