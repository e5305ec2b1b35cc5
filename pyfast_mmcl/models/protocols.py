"""What models ask of a batch, so that this room needs no import of the data room."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


class Rows(Protocol):
    """Rows of B examples: inputs {modality: [B, …]}, present {modality: bool [B]}, task [B]."""

    inputs: dict[str, Tensor]
    present: dict[str, Tensor]
    task: Tensor


@runtime_checkable
class Growing(Protocol):
    """A model whose modules change while it learns: columns, adapters, heads that grow.

    A checkpoint keeps ``structure()``, made of dicts, lists, numbers and strings; ``restructure`` gives a freshly built
    model that structure before the weights are put in.
    """

    def structure(self) -> Any: ...

    def restructure(self, structure: Any) -> None: ...


@runtime_checkable
class Melting(Protocol):
    """An attachment that can be melted into the weights it changes; ``merged`` says whether it has been."""

    merged: bool

    def merge(self) -> None: ...
