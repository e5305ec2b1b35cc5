"""Errors written for users: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
