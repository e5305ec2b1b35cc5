"""What a checkpoint says about settings, so that a run knows whether it is its own, and in what two runs differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

_MOST = 3  # settings that an error names
_LONGEST = 60  # letters of a setting in an error
_NONE = object()


def told(value: Any) -> Any:
    """A setting in JSON: its value, a hash of an array, the fields of a dataclass, or the name of a function or class.

    Nothing of it depends on the process: it is the same in the next one.
    """
    if isinstance(value, np.ndarray | Tensor):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        items = [told(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, partial):
        return {"function": told(value.func), "arguments": told(value.args), **told(value.keywords)}
    if isinstance(value, Mapping):
        return {str(name): told(item) for name, item in value.items()}
    if is_dataclass(value) and isinstance(getattr(value, "fingerprint", None), str):
        return f"{type(value).__name__} {value.fingerprint}"  # type: ignore[union-attr]
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: {field.name: told(getattr(value, field.name)) for field in fields(value)}}
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__name__


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """``its seed is 0, here it is 1, its parameters.lr is …``: a few settings by their names, or "" where all agree.

    Settings within settings are named by the way to them, with dots.
    """
    there, here = flat(theirs), flat(mine)
    names = [name for name in {**here, **there} if there.get(name, _NONE) != here.get(name, _NONE)]
    told = [f"its {name} is {_short(there, name)}, here it is {_short(here, name)}" for name in names[:_MOST]]
    return ", ".join(told) + (f", and {len(names) - _MOST} more" if len(names) > _MOST else "")


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within settings by the way to them: ``{"a": {"b": 1}}`` → ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _short(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "not set"
    return shortened(repr(settings[name]))


def shortened(text: str) -> str:
    """The beginning of a setting that is too long for a sentence."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}…"
