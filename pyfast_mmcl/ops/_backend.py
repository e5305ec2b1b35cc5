"""Choosing an implementation: a preference list that can say why it rejected each entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .._errors import BackendError, unknown_name

BACKENDS = ("auto", "torch", "native", "triton")


@dataclass(frozen=True)
class Candidate:
    """One implementation of an op: its backend word and the test of whether it can take this call."""

    backend: str
    usable: Callable[[], tuple[bool, str]]


def choose(op: str, requested: str, candidates: Sequence[Candidate]) -> str:
    """Return the backend to run: the requested one, or the first usable of the preference list.

    A backend asked for by name never falls back silently: BackendError says why it cannot run.
    """
    if requested not in BACKENDS:
        raise unknown_name("backend", requested, BACKENDS)
    reasons = []
    for candidate in candidates:
        if requested not in ("auto", candidate.backend):
            continue
        usable, reason = candidate.usable()
        if usable:
            return candidate.backend
        reasons.append(f"{candidate.backend}: {reason}")
    if requested != "auto" and not reasons:
        reasons.append(f"{requested}: {op} has no such implementation")
    raise BackendError(
        f'{op}: backend="{requested}" cannot run here ({"; ".join(reasons)}); use backend="auto" or "torch".'
    )


def explain(candidates: Sequence[Candidate]) -> list[tuple[str, bool, str]]:
    """Every candidate in order of preference with (backend, usable, reason)."""
    return [(c.backend, *c.usable()) for c in candidates]
