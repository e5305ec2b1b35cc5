"""What models ask of a batch, so that this room needs no import of the data room."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Rows(Protocol):
    """Rows of B examples: inputs {modality: [B, …]}, present {modality: bool [B]}, task [B]."""

    inputs: dict[str, Tensor]
    present: dict[str, Tensor]
    task: Tensor
