"""Several views of the same rows as one table: for estimators that look at a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.sparse import issparse
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.inputs import Rows, read_rows


@dataclass(frozen=True)
class ViewScaling:
    """How views were joined: their names (numbers for a list), and shift [D_v] and factor of each, in float64."""

    names: tuple[str, ...]
    shifts: tuple[Tensor, ...]
    factors: tuple[float, ...]


def is_views(X: Any) -> bool:
    """Whether X is a dict of tables, or a list or tuple of two-dimensional ones (a list of lists is one table)."""
    if isinstance(X, Mapping):
        return not hasattr(X, "columns") and not issparse(X)  # a data frame and a dok_array are one table
    tables = isinstance(X, list | tuple) and len(X) > 0
    return tables and all(len(getattr(view, "shape", ())) == 2 for view in X)


def join_views(X: Mapping[str, Any] | Sequence[Any], fitted: ViewScaling | None = None) -> tuple[Any, ViewScaling]:
    """One table [N, ΣD] of all views, each shifted to mean 0 and divided by the root of its total variance.

    ``cat([(x_v − mean_v) / sqrt(((x_v − mean_v)²).mean(0).sum()) for v in views], 1)``: every view then weighs the
    same in squared distances, however many features it has. fitted: the scaling of ``fit``, for new rows.

    The table is float64 NumPy, or a tensor where every view is one. Raises InputError for views of different lengths,
    other names or widths than in ``fit``, and what ``read_rows`` refuses.
    """
    named = {str(name): view for name, view in (X.items() if isinstance(X, Mapping) else enumerate(X))}
    if not named:
        raise InputError("X has no views; pass at least one table [rows, features].")
    tables = {name: _table(name, view) for name, view in named.items()}
    lengths = {name: len(table) for name, table in tables.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"views must have the same rows, got {lengths} rows; align them first.")
    if fitted is None:
        fitted = ViewScaling(tuple(tables), *zip(*(_measure(table) for table in tables.values()), strict=True))
    if tuple(tables) != fitted.names:
        raise InputError(f"expected the views {list(fitted.names)} as in fit, got {list(tables)}.")
    columns = []
    for table, name, shift, factor in zip(tables.values(), fitted.names, fitted.shifts, fitted.factors, strict=True):
        if table.shape[1] != len(shift):
            raise InputError(f"view {name!r}: expected {len(shift)} features as in fit, got {table.shape[1]}.")
        columns.append((table.source.double() - shift.to(table.device)) * factor)
    joined = torch.cat([column.to(columns[0].device) for column in columns], dim=1)
    return joined.cpu().numpy() if any(table.from_numpy for table in tables.values()) else joined, fitted


def _table(name: str, view: Any) -> Rows:
    try:
        return read_rows(view.toarray() if issparse(view) else view)
    except InputError as error:
        raise InputError(f"view {name!r}: {error}") from error


def _measure(table: Rows) -> tuple[Tensor, float]:
    x = table.source.double()
    shift = x.mean(0)
    total = float((x - shift).square().mean(0).sum())
    return shift.cpu(), total**-0.5 if total > 0 else 1.0
