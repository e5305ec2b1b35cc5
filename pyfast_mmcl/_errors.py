"""Errors written for users: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any


class InputError(ValueError):
    """An argument or a file is not what the function needs."""


class UnknownNameError(InputError):
    """A method, metric or option name that does not exist; the message lists the nearest names."""


class CheckpointError(InputError):
    """A checkpoint that is missing, damaged, foreign or from another version."""


class BackendError(RuntimeError):
    """A backend asked for by name that cannot run here; the message says why and what to do."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Build the error for an unknown ``name``: it lists the nearest names, or all when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}."
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}")


def whole_number(name: str, value: Any, *, least: int | None = 1) -> int:
    """``value`` as int. Raises InputError when it is no whole number (a bool is none) or below ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        raise InputError(
            f"{name}: expected a whole number{'' if least is None else f' of at least {least}'}, got {value!r}."
        )
    return number


def number_above_zero(name: str, value: Any) -> float:
    """``value`` as float. Raises InputError when it is no finite number above 0."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
    if number is None or not 0 < number < float("inf"):
        raise InputError(f"{name}: expected a finite number above 0, got {value!r}.")
    return number


def number_from_zero(name: str, value: Any) -> float:
    """``value`` as float. Raises InputError when it is no finite number of at least 0."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
    if number is None or not 0 <= number < float("inf"):
        raise InputError(f"{name}: expected a finite number of at least 0, got {value!r}.")
    return number
