"""Objectives that subtract large numbers from one another, which bfloat16 has too few digits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

_P = ParamSpec("_P")
_HALF = (torch.bfloat16, torch.float16)


def in_full_precision(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """``function`` outside autocast, its tensors of half precision made float32; the first argument is a tensor."""

    @wraps(function)
    def widened(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        device = args[0].device.type  # type: ignore[attr-defined]
        with torch.autocast(device, enabled=False):
            return function(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return widened


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value
