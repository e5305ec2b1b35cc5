"""One modality of a record as a generator reads it, says it and pays for it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError

# Width of a token of text inside the generator.
_TOKEN = 32
# A column that never varies would have σ = 0.
_LEAST_VARIANCE = 1e-4
_TINY = 1e-6


class Column(nn.Module, ABC):
    """Rows of one shape: ``read`` [B, …] → [B, hidden], ``say`` [B, hidden] → parameters of their distribution.

    ``cost`` is −log p of every row [B], ``make`` the likeliest rows; ``structure`` what ``of`` makes it again from.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    @abstractmethod
    def read(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def say(self, h: Tensor) -> Tensor: ...

    @abstractmethod
    def cost(self, said: Tensor, x: Tensor, present: Tensor) -> Tensor: ...

    @abstractmethod
    def make(self, said: Tensor) -> Tensor: ...

    @abstractmethod
    def meet(self, x: Tensor) -> None:
        """Make room for rows [B, …], all of them present, before the column is trained on them."""

    @abstractmethod
    def structure(self) -> dict[str, Any]: ...

    @staticmethod
    def of(structure: dict[str, Any], hidden: int) -> Column:
        """The column that said so of itself, with fresh weights."""
        shape = tuple(structure["shape"])
        dtype = getattr(torch, structure["dtype"])
        if structure["kind"] == "tokens":
            return TokenColumn(shape, hidden, dtype=dtype, vocabulary=structure["vocabulary"])
        return FloatColumn(shape, hidden, dtype=dtype)

    def _fits(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise InputError(f"generator: expected rows of shape {self.shape}, got {tuple(x.shape[1:])}.")
        return x


class FloatColumn(Column):
    """Numbers with the mean and spread of all of them taken out: Gaussian around what is said, with one σ.

    σ² is the mean squared error of the rows it is paid for, its likeliest value, and gets no gradient.
    """

    low: Tensor
    high: Tensor
    center: Tensor
    spread: Tensor
    watched: Tensor

    def __init__(self, shape: tuple[int, ...], hidden: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(shape)
        self.dtype = dtype
        size = math.prod(self.shape)
        self.reader, self.sayer = nn.Linear(size, hidden), nn.Linear(hidden, size)
        for name, value in {"center": 0.0, "spread": 1.0, "low": 0.0, "high": 0.0}.items():
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("watched", torch.tensor(False))

    @torch.no_grad()
    def meet(self, x: Tensor) -> None:
        """Center and spread are those of the first rows; the range is that of all."""
        x = self._fits(x).float()
        if x.numel() == 0:
            return
        if not bool(self.watched):
            self.center.copy_(x.double().mean())
            self.spread.copy_(x.double().std(correction=0).clamp(min=_TINY))
            self.low.copy_(x.min())
            self.high.copy_(x.max())
            self.watched.fill_(True)
        self.low.copy_(torch.minimum(self.low, x.min()))
        self.high.copy_(torch.maximum(self.high, x.max()))

    def read(self, x: Tensor) -> Tensor:
        return self.reader(self._standard(x))

    def say(self, h: Tensor) -> Tensor:
        return self.sayer(h)

    def cost(self, said: Tensor, x: Tensor, present: Tensor) -> Tensor:
        squares = (self._standard(x) - said).square()
        variance = squares.detach()[present].mean().clamp(min=_LEAST_VARIANCE)
        return 0.5 * (squares / variance + variance.log() + math.log(2 * math.pi)).sum(1)

    def make(self, said: Tensor) -> Tensor:
        rows = (said * self.spread + self.center).clamp(self.low, self.high)
        return rows.unflatten(1, self.shape).to(self.dtype)

    def structure(self) -> dict[str, Any]:
        return {"kind": "floats", "shape": list(self.shape), "dtype": str(self.dtype).removeprefix("torch.")}

    def _standard(self, x: Tensor) -> Tensor:
        return (self._fits(x).flatten(1).to(self.reader.weight.dtype) - self.center) / self.spread


class TokenColumn(Column):
    """Token ids [B, S]: categorical at every place, tokens read and said through one table, as long as ids need it."""

    def __init__(self, shape: tuple[int, ...], hidden: int, *, dtype: torch.dtype, vocabulary: int = 1) -> None:
        super().__init__(shape)
        size = math.prod(self.shape)
        self.dtype = dtype
        self.table = nn.Embedding(vocabulary, _TOKEN)
        self.reader, self.sayer = nn.Linear(size * _TOKEN, hidden), nn.Linear(hidden, size * _TOKEN)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    @torch.no_grad()
    def meet(self, x: Tensor) -> None:
        known, new = self.table.num_embeddings, int(self._fits(x).max()) + 1 if x.numel() else 0
        if new <= known:
            return
        longer = nn.Embedding(new, _TOKEN).to(self.bias)
        longer.weight[:known] = self.table.weight
        self.table = longer
        self.bias = nn.Parameter(torch.cat([self.bias, self.bias.new_zeros(new - known)]))

    def read(self, x: Tensor) -> Tensor:
        return self.reader(self.table(self._fits(x)).flatten(1))

    def say(self, h: Tensor) -> Tensor:
        places = self.sayer(h).unflatten(1, (math.prod(self.shape), _TOKEN))
        return places @ self.table.weight.T + self.bias

    def cost(self, said: Tensor, x: Tensor, present: Tensor) -> Tensor:
        return F.cross_entropy(said.mT, self._fits(x).flatten(1).long(), reduction="none").sum(1)

    def make(self, said: Tensor) -> Tensor:
        return said.argmax(2).unflatten(1, self.shape).to(self.dtype)

    def structure(self) -> dict[str, Any]:
        return {
            "kind": "tokens",
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "vocabulary": self.table.num_embeddings,
        }


def column_for(name: str, x: Tensor, hidden: int) -> Column:
    """The column of rows like ``x`` [B, …]: integers are tokens, floats and bytes numbers.

    Raises InputError for anything else, and for rows of no number.
    """
    shape = tuple(x.shape[1:])
    if x.ndim < 2 or math.prod(shape) == 0:
        raise InputError(f"modality {name!r}: expected rows of one number or more, got shape {tuple(x.shape)}.")
    if x.dtype in (torch.int32, torch.int64):
        return TokenColumn(shape, hidden, dtype=x.dtype)
    if not x.is_floating_point() and x.dtype != torch.uint8:
        raise InputError(f"modality {name!r}: a generator makes floats, bytes and token ids, got {x.dtype}.")
    return FloatColumn(shape, hidden, dtype=x.dtype)
