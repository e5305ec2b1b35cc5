"""Input checks shared by the kNN ops, and the way from NumPy to torch and back."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._errors import InputError, unknown_name

METRICS = ("l2", "ip", "cosine")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def as_tensor(x: Any, name: str) -> Tensor:
    """A tensor that shares memory with ``x`` (tensor, array or memory map); anything else is an InputError."""
    if isinstance(x, Tensor):
        if x.layout != torch.strided or x.is_nested:
            raise InputError(f"{name}: expected a dense tensor, got layout {x.layout}; call .to_dense() on it.")
        return x.detach().resolve_neg()
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
        raise InputError(f"{name}: expected a torch tensor or a plain NumPy array, got {type(x).__name__}.")
    if x.dtype.kind not in "fiu" or not x.dtype.isnative or x.itemsize > 8:
        raise InputError(
            f"{name}: expected float32, float16 or bfloat16 values, got dtype {x.dtype}; "
            f"convert with .astype(np.float32)."
        )
    if any(s < 0 for s in x.strides) or any(s % x.itemsize for s in x.strides):
        x = np.ascontiguousarray(x)  # torch has no negative or unaligned strides
    return torch.from_numpy(x if x.flags.writeable else np.asarray(_Borrowed(x)))


class _Borrowed:
    """The memory of a read-only array without that flag: it is only read here, which torch cannot know."""

    def __init__(self, x: np.ndarray) -> None:
        self._owner = x
        self.__array_interface__ = {**x.__array_interface__, "data": (x.__array_interface__["data"][0], False)}


def as_rows(x: Any, name: str) -> Tensor:
    """``x`` as a floating tensor [rows, features], features ≥ 1."""
    t = as_tensor(x, name)
    if t.ndim != 2:
        raise InputError(f"{name}: expected shape [rows, features], got {list(t.shape)}.")
    if t.dtype not in FLOATS:
        raise InputError(
            f"{name}: expected float32, float16, bfloat16 or float64, got {t.dtype}; convert with .float()."
        )
    if t.shape[1] < 1:
        raise InputError(f"{name}: expected at least one feature, got shape {list(t.shape)}.")
    return t


def check_pair(a: Tensor, b: Tensor, name_a: str, name_b: str) -> None:
    """Both sides must agree in features, device and precision class (float64 is not mixed with the others)."""
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"{name_a} and {name_b}: expected the same number of features, got {a.shape[1]} and {b.shape[1]}."
        )
    if a.device != b.device:
        raise InputError(f"{name_a} is on {a.device} and {name_b} on {b.device}; move one with .to(device).")
    if (a.dtype == torch.float64) != (b.dtype == torch.float64):
        raise InputError(f"{name_a} is {a.dtype} and {name_b} {b.dtype}; convert both to one of them.")


def check_finite(x: Tensor, name: str) -> None:
    """Raise InputError naming the first row with NaN or infinity."""
    for start in range(0, x.shape[0], 65536):
        bad = ~torch.isfinite(x[start : start + 65536]).all(dim=1)
        if bad.any():
            row = start + int(bad.nonzero()[0, 0])
            raise InputError(
                f"{name}: expected finite values, row {row} has NaN or infinity; drop or repair such rows."
            )


def check_metric(metric: str) -> str:
    """One of the three metric names; an unknown one lists the nearest."""
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    return metric


def check_k(k: Any) -> int:
    """``k`` as an int between 1 and 2^31 - 1."""
    try:
        k = operator.index(k)
    except TypeError:
        raise InputError(f"k: expected an integer ≥ 1, got {k!r}.") from None
    if not 1 <= k < 2**31:
        raise InputError(f"k: expected an integer ≥ 1 and below 2**31, got {k}.")
    return k


def check_flag(value: Any, name: str) -> bool:
    """``value`` as a bool; a string or number is a mistake, not a truth value."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: expected True or False, got {value!r}.")
    return bool(value)


def new_outputs(n: int, k: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialised distances float32 and indices int64 [n, k]; an InputError where they do not fit into memory."""
    try:
        return like.new_empty(n, k, dtype=torch.float32), like.new_empty(n, k, dtype=torch.int64)
    except (RuntimeError, MemoryError):
        raise InputError(
            f"k: {n} queries × k = {k} neighbours need {12 * n * k / 2**30:.1f} GiB, which cannot be allocated; "
            "ask for fewer, or search in parts."
        ) from None


def like(result: Tensor, numpy: bool) -> Any:
    """``result`` as the kind the caller works with."""
    return result.numpy() if numpy else result
