"""Input checks shared by the sampling ops: rows, ids, groups, weights; and the way back to the caller's kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from ..knn._checks import as_tensor

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
REALS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def in_kind(result: Tensor, like: Any) -> Any:
    """``result`` as a tensor where ``like`` is one, else as a NumPy array."""
    return result if isinstance(like, Tensor) else result.cpu().numpy()


def check_index(x: Any, name: str, like: Tensor | None = None) -> Tensor:
    """``x`` as int64 [N]; with ``like``, one number for each of its rows and on its device."""
    t = as_tensor(x, name)
    if t.dtype not in INTEGERS or t.ndim != 1:
        raise InputError(
            f"{name}: expected integers of shape [N], got {t.dtype} {list(t.shape)}; convert with .to(torch.int64)."
        )
    check_alike(t, name, like)
    return t if t.dtype == torch.int64 else t.to(torch.int64)


def check_alike(t: Tensor, name: str, like: Tensor | None) -> None:
    """``t`` must have one entry per row of ``like`` and lie on its device."""
    if like is None:
        return
    if t.shape[0] != like.shape[0]:
        raise InputError(f"{name}: expected one number per row, {like.shape[0]} in all, got {t.shape[0]}.")
    if t.device != like.device:
        raise InputError(f"{name}: expected a tensor on {like.device}, got one on {t.device}; move it with .to().")


def check_weights(x: Any, name: str, like: Tensor | None = None) -> Tensor:
    """``x`` as float64 [N], finite and ≥ 0; −0 becomes 0, whose quotients would be infinite with the wrong sign."""
    t = check_reals(x, name, like)
    bad = ~((t >= 0) & (t < torch.inf))
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise InputError(f"{name}: expected finite numbers of at least 0, entry {row} is {float(t[row])}.")
    return t + 0.0


def check_squares(squares: Tensor, name: str, rows: Tensor) -> None:
    """Squared norms [R] (times their number) of rows [R] must be finite for scores to be."""
    bad = ~squares.isfinite()
    if bool(bad.any()):
        row = int(rows[bad].min())
        raise InputError(
            f"{name}: expected finite numbers with a finite squared norm, row {row} is not; scale the rows down."
        )


def check_reals(x: Any, name: str, like: Tensor | None = None) -> Tensor:
    """``x`` as float64 [N]."""
    return check_numbers(x, name, like).to(torch.float64)


def check_numbers(x: Any, name: str, like: Tensor | None = None) -> Tensor:
    """``x`` as a real tensor [N] of its own type."""
    t = as_tensor(x, name)
    if t.dtype not in REALS + INTEGERS or t.ndim != 1:
        raise InputError(
            f"{name}: expected numbers of shape [N], got {t.dtype} {list(t.shape)}; convert with .float()."
        )
    check_alike(t, name, like)
    return t
