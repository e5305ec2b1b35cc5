"""Where columns lie: on the device, or in pinned host memory."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError


class Storage(Protocol):
    """Gives columns room. ``device``: where they lie.

    ``grow`` gives a column of ``rows`` rows, the old ones in front and zeros behind; ``adopt`` takes a loaded column
    in; ``take`` gives the rows of ``slots`` as a copy on ``device``. ``frozen`` slots may not be written to: a state
    refers to them.
    """

    device: torch.device
    frozen: np.ndarray
    packs: bool  # whether room that is not needed can be given back

    def fresh(self) -> Storage:
        """The same kind of storage for other rows."""

    def replace(self, key: tuple[str, str], part: str, rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Zeros that take the place of the column of this name, which stays readable until it is dropped."""

    def ready(self) -> None:
        """Told before rows are written. Raises InputError where they may not be."""

    def wrote(self, slots: Tensor) -> None:
        """Told after rows have been written."""

    def grow(
        self,
        key: tuple[str, str],
        part: str,
        old: Tensor | None,
        rows: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
    ) -> Tensor: ...

    def adopt(self, key: tuple[str, str], part: str, column: Tensor) -> Tensor: ...

    def take(self, column: Tensor, slots: Tensor, device: torch.device) -> Tensor: ...


class OnDevice:
    """Plain tensors on one device."""

    packs = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.frozen = np.zeros(0, dtype=np.int64)

    def fresh(self) -> Storage:
        return self

    def replace(self, key: tuple[str, str], part: str, rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return self._zeros(rows, shape, dtype)

    def ready(self) -> None:
        """Nothing: no other memory has these tensors."""

    def wrote(self, slots: Tensor) -> None:
        """Nothing: the rows lie where they are."""

    def grow(
        self,
        key: tuple[str, str],
        part: str,
        old: Tensor | None,
        rows: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
    ) -> Tensor:
        column = self._zeros(rows, shape, dtype)
        if old is not None:
            column[: len(old)] = old
        return column

    def adopt(self, key: tuple[str, str], part: str, column: Tensor) -> Tensor:
        mine = self._zeros(len(column), tuple(column.shape[1:]), column.dtype)
        return mine.copy_(column)

    def take(self, column: Tensor, slots: Tensor, device: torch.device) -> Tensor:
        return column.index_select(0, slots)

    def _zeros(self, rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros((rows, *shape), dtype=dtype, device=self.device)


class Pinned(OnDevice):
    """Page-locked host memory: drawn rows travel to the GPU while it works on something else."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise InputError("memory: storage 'pinned' needs a CUDA GPU that torch can use; choose storage='device'.")
        super().__init__(torch.device("cpu"))

    def take(self, column: Tensor, slots: Tensor, device: torch.device) -> Tensor:
        if device.type != "cuda":
            return column.index_select(0, slots)
        # torch hands a pinned block out again only after the copies from it are done.
        rows = torch.empty((len(slots), *column.shape[1:]), dtype=column.dtype, pin_memory=True)
        return torch.index_select(column, 0, slots, out=rows).to(device, non_blocking=True)

    def _zeros(self, rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros((rows, *shape), dtype=dtype, pin_memory=True)
