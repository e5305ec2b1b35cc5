"""What a contestant library's file (families/<family>/peers/<library>.py) offers:

    unavailable() -> str | None          why it cannot run here, as a sentence; None when it can
    versions() -> dict[str, str]
    TOLERANCE                            how far its arithmetic may be from float64, in the family's gate
    tolerance(options) -> float          the same where it depends on the options; optional
    prepare(case, inputs, options) -> Prepared

It imports its library inside these functions, so that one missing library never disturbs the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any


class Unsupported(Exception):
    """This library has no such operation, metric or dtype; the message says which."""


@dataclass
class Prepared:
    """A call ready to be timed. `seconds`, when given, replaces the wall clock (a peer that can only run whole fits
    reports the difference between two of them) and costs about `calls` times as much as `run`. `held` counts bytes kept
    between calls (a packed bank, an index)."""

    run: Callable[[], Any]
    arrays: Callable[[Any], dict]
    seconds: Callable[[], float] | None = None
    calls: int = 1
    held: int = 0
    backend: str = ""


@dataclass
class Inputs:
    """The arrays of a case."""

    case: Any
    arrays: dict


def missing(*modules: str, install: str) -> str | None:
    """One sentence when a module cannot be imported, with the reason the import gave."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{module} cannot be imported ({error}); install it with: pip install {install}"
    return None


def version_of(*distributions: str) -> dict[str, str]:
    """Versions of the installed ones among these distributions."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
