"""What two small forward passes of different size tell about a model: what is shared, and where samples lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .layout import Layout, candidates


@dataclass(frozen=True)
class Shapes:
    """What one call looked like: shapes of its tensors, and whether its result was taken as shared."""

    args: list[torch.Size]
    results: list[torch.Size]
    shared: bool


class Plan:
    """Roles and layouts of all calls by key; empty until it has learned."""

    def __init__(self) -> None:
        self._shared: dict[str, bool] = {}
        self._args: dict[str, list[list[Layout]]] = {}
        self._outs: dict[str, list[list[Layout]]] = {}
        self._chosen: dict[str, tuple[list[Layout | None], list[Layout | None]]] = {}

    def is_shared(self, key: str, alone: bool) -> bool:
        """Whether the call's result is the same for every sample; ``alone``: all its tensors are."""
        return self._shared.get(key, alone)

    def learn(self, first: Mapping[str, Shapes], n: int, second: Mapping[str, Shapes], m: int) -> bool:
        """Compare what was seen with n and with m samples; True when a role changed and another look is needed."""
        changed = False
        self._chosen.clear()
        for key in first.keys() & second.keys():
            args = list(zip(first[key].args, second[key].args, strict=False))
            results = list(zip(first[key].results, second[key].results, strict=False))
            self._args[key] = [candidates([tuple(x), tuple(y)], [n, m]) for x, y in args]
            self._outs[key] = [candidates([tuple(x), tuple(y)], [n, m]) for x, y in results]
            shared = all(x == y for x, y in args + results)
            # what no longer counts as shared is missing from the names of later calls that read other parameters too
            renamed = not shared and any(f"{key}[" in other for other in first)
            changed |= (shared or renamed) and shared != first[key].shared
            self._shared[key] = shared
        return changed

    @property
    def ambiguous(self) -> bool:
        """Whether sizes alone leave more than one layout for some result."""
        return any(len(found) > 1 for outs in self._outs.values() for found in outs)

    def out_candidates(self, key: str, place: int) -> list[Layout]:
        """Layouts that explain result number ``place`` of a call."""
        found = self._outs.get(key, [])
        return found[place] if place < len(found) else []

    def choose(self, key: str, place: int, fitting: list[Layout]) -> None:
        """Keep only the layouts that fit what was seen of a result; the first of them will be used."""
        self._outs[key][place] = fitting
        self._chosen.pop(key, None)

    def layouts(self, key: str) -> tuple[list[Layout | None] | None, list[Layout | None] | None]:
        """(of the arguments, of the results); None where nothing was learned."""
        if key not in self._outs:
            return None, None
        if key not in self._chosen:
            outs = [found[0] if found else None for found in self._outs[key]]
            self._chosen[key] = [_like(found, outs) for found in self._args[key]], outs
        return self._chosen[key]


def _like(found: list[Layout], outs: list[Layout | None]) -> Layout | None:
    """The candidate most like the results' layout: equal, else of the same order, else the first."""
    for out in outs:
        if out in found:
            return out
    alike = [x for x in found if any(out is not None and x.major == out.major for out in outs)]
    return next(iter(alike or found), None)
