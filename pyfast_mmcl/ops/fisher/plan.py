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
        self._chosen: dict[str, Layout] = {}

    def is_shared(self, key: str, alone: bool) -> bool:
        """Whether the call's result is the same for every sample; ``alone``: all its tensors are."""
        return self._shared.get(key, alone)

    def learn(self, first: Mapping[str, Shapes], n: int, second: Mapping[str, Shapes], m: int) -> bool:
        """Compare what was seen with n and with m samples; True when a role changed and another look is needed."""
        changed = False
        for key in first.keys() & second.keys():
            args = list(zip(first[key].args, second[key].args, strict=False))
            results = list(zip(first[key].results, second[key].results, strict=False))
            self._args[key] = [candidates([tuple(x), tuple(y)], [n, m]) for x, y in args]
            self._outs[key] = [candidates([tuple(x), tuple(y)], [n, m]) for x, y in results]
            shared = all(x == y for x, y in args + results)
            changed |= first[key].shared != shared
            self._shared[key] = shared
        return changed

    def out_candidates(self, key: str, place: int) -> list[Layout]:
        """Layouts that explain result number ``place`` of a call."""
        found = self._outs.get(key, [])
        return found[place] if place < len(found) else []

    def choose(self, key: str, layout: Layout) -> None:
        """Settle the layout of a call's results."""
        self._chosen[key] = layout

    def layouts(self, key: str) -> tuple[list[Layout | None] | None, list[Layout | None] | None]:
        """(of the arguments, of the results); None where nothing was learned."""
        if key not in self._outs:
            return None, None
        chosen = self._chosen.get(key)
        return [_near(found, chosen) for found in self._args[key]], [_near(found, chosen) for found in self._outs[key]]


def _near(found: list[Layout], chosen: Layout | None) -> Layout | None:
    """The candidate most like the chosen one: equal, else of the same order, else the first."""
    if chosen in found:
        return chosen
    alike = [x for x in found if chosen is None or x.major == chosen.major]
    return (alike or found or [None])[0]
