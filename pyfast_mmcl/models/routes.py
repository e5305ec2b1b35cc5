"""Attachments that hold several ways through a model, one per task, and let every row take its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, whole_number


class Route:
    """Which way rows take: that of ``setting``, or one of their own while ``given`` is set. −1 is no way at all."""

    def __init__(self) -> None:
        self.setting = -1
        self.given: int | Tensor | None = None
        # bool [B] while a modality is encoded that some rows lack: those go through a tower, but ask it nothing.
        self.there: Tensor | None = None

    @property
    def off(self) -> bool:
        """Whether no row takes any way, known without a look at the device."""
        way = self.setting if self.given is None else self.given
        return isinstance(way, int) and way < 0

    def of(self, x: Tensor) -> Tensor:
        """The way [B] of every row of ``x`` [B, …]."""
        way = self.setting if self.given is None else self.given
        if isinstance(way, int):
            return torch.full((len(x),), way, dtype=torch.int64, device=x.device)
        if len(way) != len(x):
            raise InputError(f"rows: expected one way for each of the {len(x)} rows that are encoded, got {len(way)}.")
        return way.to(x.device)


class Routed(nn.Module, ABC):
    """An attachment with W ways; a subclass adds one in ``add_way`` and reads ``self.route`` in its blocks.

    setting   the way that all rows take unless told otherwise; −1 leaves the model as it was before the attachment
    """

    def __init__(self) -> None:
        super().__init__()
        self.route = Route()

    @property
    def setting(self) -> int:
        """The way of all rows now: what ``switch`` chose, or the one way given within ``rows``."""
        return self.route.given if isinstance(self.route.given, int) else self.route.setting

    @property
    @abstractmethod
    def n_ways(self) -> int: ...

    @abstractmethod
    def add_way(self) -> int:
        """Make a new way, the only one that trains from now on, switch to it and return its number."""

    def switch(self, way: int) -> None:
        """Let all rows take ``way`` from now on, −1 for none. Raises InputError for one that is not there."""
        self.route.setting = self._check(way)

    @contextmanager
    def rows(self, ways: int | Tensor) -> Iterator[None]:
        """Within the body rows take ``ways``: one for all, or int64 [B], one for each row that is encoded."""
        before = self.route.given
        self.route.given = ways if isinstance(ways, Tensor) else self._check(ways)
        try:
            yield
        finally:
            self.route.given = before

    @contextmanager
    def present(self, there: Tensor) -> Iterator[None]:
        """Within the body rows are encoded of which only those of ``there``, bool [B], have what is encoded."""
        self.route.there = there
        try:
            yield
        finally:
            self.route.there = None

    def structure(self) -> dict[str, int]:
        """Number of ways and the setting, for a checkpoint."""
        return {"ways": self.n_ways, "setting": self.route.setting}

    def restructure(self, structure: Any) -> None:
        """Grow to the number of ways in ``structure`` and take its setting."""
        while self.n_ways < structure["ways"]:
            self.add_way()
        self.switch(structure["setting"])

    def _check(self, way: int) -> int:
        way = whole_number("way", way, least=-1)
        if way >= self.n_ways:
            raise InputError(f"way: expected -1 to {self.n_ways - 1}, as there are {self.n_ways}, got {way}.")
        return way
