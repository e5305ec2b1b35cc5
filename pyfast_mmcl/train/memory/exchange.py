"""One memory over several processes: every rank offers its rows, and all end with the rows of one process."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.memory.codecs import Parts
from pyfast_mmcl.train.memory.columns import Column, Key, label
from pyfast_mmcl.train.memory.offer import Chances, Offer
from pyfast_mmcl.train.memory.wire import Wire

if TYPE_CHECKING:
    from pyfast_mmcl.train.memory.columns import Store

Encoded = dict[Key, Parts | None]


class Exchange:
    """What the ranks tell one another during one ``add``: rows and counts of all, new columns, then the winners."""

    def __init__(self, wire: Wire, call: str) -> None:
        self.wire = wire
        self.call = call
        self.counts: list[int] = []

    def open(
        self, problem: str | None, rows: int, told: dict[str, Any], settings: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Begin: how many rows every rank brings, and what each has to tell ([] where none has anything).

        Raises InputError on every rank when one has a problem, when they call different things or when ``settings``
        differ.
        """
        code = {"add": 1, "update": 2}[self.call]
        heads = self.wire.gather(torch.tensor([code, rows, int(bool(told) or problem is not None)]))
        self.counts = [int(head[1]) for head in heads]
        if not any(int(head[2]) for head in heads) and all(int(head[0]) == code for head in heads):
            return []
        answers = self.wire.say({"problem": problem, "call": self.call, "settings": settings, **told})
        self.wire.refuse([answer["problem"] for answer in answers])
        self._same([answer["call"] for answer in answers], "call")
        for name in settings:
            self._same([answer["settings"][name] for answer in answers], name)
        return answers

    def columns(self, answers: list[dict[str, Any]], store: Store) -> dict[Key, Column]:
        """The new columns of all ranks, in one order."""
        found: dict[Key, tuple[int, list]] = {}
        for rank, answer in enumerate(answers):
            for kind, name, *layout in answer.get("new", []):
                first, known = found.setdefault((kind, name), (rank, layout))
                if known != layout:
                    raise InputError(
                        f"memory over {self.wire.world} processes: {label((kind, name))} has rows of "
                        f"{known[0]} {known[1]} on rank {first} and {layout[0]} {layout[1]} on rank {rank}; "
                        f"give every row the same shape and dtype."
                    )
        return {
            key: store.column(key, tuple(shape), getattr(torch, dtype)) for key, (_, (shape, dtype)) in found.items()
        }

    def chances(self, own: Chances, answers: list[dict[str, Any]]) -> Chances:
        """The rows of all ranks, one rank after another; ``rows`` counts them through."""
        columns = [own.index, own.keys] + ([] if own.groups is None else [own.groups])
        together = self.wire.gather_rows(torch.from_numpy(np.stack(columns, 1)), self.counts).numpy()
        features = None
        if own.features is not None:
            features = self.wire.gather_rows(self._features(own.features, answers), self.counts)
        rows = np.arange(sum(self.counts))
        return Chances(rows, together[:, 0], together[:, 1], None if own.groups is None else together[:, 2], features)

    def own(self, offer: Offer) -> np.ndarray:
        """Of the winners, those of this rank: positions among the chances that it brought."""
        start = sum(self.counts[: self.wire.rank])
        mine = offer.winners - start
        return mine[(mine >= 0) & (mine < self.counts[self.wire.rank])]

    def winners(
        self, offer: Offer, columns: dict[Key, Column], encoded: Encoded | None, problem: str | None
    ) -> Encoded:
        """Codes of the winners of all ranks, in the order of ``offer.winners``."""
        self.wire.agree(problem)
        ends = np.cumsum(self.counts)
        counts = np.diff(np.searchsorted(offer.winners, np.r_[0, ends])).tolist()
        packed = _pack(columns, encoded or {}, counts[self.wire.rank])
        return _unpack(columns, self.wire.gather_rows(packed, counts))

    def _features(self, own: Tensor, answers: list[dict[str, Any]]) -> Tensor:
        """This rank's features in the layout of all: a rank without rows cannot know their number and dtype."""
        layouts = [answer["features"] for answer in answers if answer.get("features")]
        for layout in layouts:
            if layout != layouts[0]:
                raise InputError(
                    f"memory over {self.wire.world} processes: features are [B, {layouts[0][0]}] {layouts[0][1]} on "
                    f"one rank and [B, {layout[0]}] {layout[1]} on another; give them alike."
                )
        if len(own) or not layouts:
            return own
        return torch.zeros((0, layouts[0][0]), dtype=getattr(torch, layouts[0][1]))

    def _same(self, values: list[Any], name: str) -> None:
        for rank, value in enumerate(values):
            if value != values[0]:
                raise InputError(
                    f"memory over {self.wire.world} processes: {name} is {values[0]!r} on rank 0 and {value!r} on "
                    f"rank {rank}; make the memories alike and use them alike."
                )


def layouts(columns: Mapping[Key, Column]) -> list[list[Any]]:
    """New columns as JSON: [kind, name, shape, dtype]."""
    return [[kind, name, list(column.shape), dtype_name(column.dtype)] for (kind, name), column in columns.items()]


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _pack(columns: dict[Key, Column], encoded: Encoded, rows: int) -> Tensor:
    """Codes of ``rows`` rows as bytes [rows, bytes of a row]; what a row lacks is zeros."""
    packed = []
    for key, column in columns.items():
        parts = encoded.get(key)
        for name, (shape, dtype) in column.layout.items():
            part = torch.zeros((rows, *shape), dtype=dtype) if parts is None else parts[name].cpu()
            # A single row may be contiguous with strides that no other dtype can have; a copy has plain ones.
            part = part.clone(memory_format=torch.contiguous_format)
            packed.append(part.reshape(rows, prod(shape)).view(torch.uint8))
    return torch.cat(packed, 1)


def _unpack(columns: dict[Key, Column], packed: Tensor) -> Encoded:
    encoded: Encoded = {}
    start = 0
    for key, column in columns.items():
        parts = {}
        for name, (shape, dtype) in column.layout.items():
            size = prod(shape) * dtype.itemsize
            piece = packed[:, start : start + size].clone(memory_format=torch.contiguous_format)
            parts[name] = piece.view(dtype).reshape(len(packed), *shape)
            start += size
        encoded[key] = parts
    return encoded
