"""One small file per contestant library. Each offers

    unavailable() -> str | None          why it cannot run here, as a sentence; None when it can
    versions() -> dict[str, str]
    TOLERANCE                            how far its arithmetic may be from float64, relative to ‖q‖² + max ‖x‖²
    tolerance(options) -> float          the same where it depends on the options; optional
    prepare(case, inputs, options) -> Prepared

and imports its library inside these functions, so that one missing library never disturbs the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

FLOAT32_TOLERANCE = 1e-5  # expanded-form float32 distances: rounding of ‖q‖² + ‖x‖² − 2⟨q,x⟩
TF32_TOLERANCE = 2e-3  # products of operands rounded to 10 mantissa bits


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
    """The arrays of a case; `next()` gives the same views each time, or ever smaller ones for a moving case."""

    case: Any
    arrays: dict
    step: int = field(default=0, init=False)

    def next(self) -> tuple:
        rows, others = self.arrays["rows"], self.arrays["others"]
        if not self.case.moving:
            return rows, others
        cut, self.step = self.step % 64, self.step + 1
        return rows[: len(rows) - cut], others[: len(others) - cut]


def load(name: str):
    """A peer by its file name here, or any module by its dotted name."""
    return importlib.import_module(name if "." in name else f"benchmarks.peers.{name}")


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
