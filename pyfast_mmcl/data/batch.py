"""One multimodal batch: any set of modalities, some of them missing in some rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError


@dataclass(eq=False)
class Batch:
    """Rows of B examples.

    inputs   {modality: [B, …]}      zeros where the modality is missing
    target   [B] or [B, S]           class, or a sequence of tokens
    task     [B] int64               task of each row; −1 where the scenario hides it
    present  {modality: bool [B]}    which rows carry the modality
    index    [B] int64               global example id, the same in every epoch
    fresh    int                     rows [0, fresh) come from the current task, the rest from memory (default: all)
    extras   {name: [B − fresh, …]}  what a memory stored beside its rows (logits, features)
    """

    inputs: dict[str, Tensor]
    target: Tensor
    task: Tensor
    present: dict[str, Tensor]
    index: Tensor
    fresh: int = -1
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.target)
        if self.fresh < 0:
            self.fresh = rows
        if set(self.inputs) != set(self.present):
            raise InputError(
                f"batch: inputs have modalities {sorted(self.inputs)}, present has {sorted(self.present)}; "
                f"give one presence mask per modality."
            )
        columns = {
            "task": self.task,
            "index": self.index,
            **self.inputs,
            **{f"present {m}": p for m, p in self.present.items()},
        }
        for name, column in columns.items():
            if name.startswith("present ") and column.dtype != torch.bool:
                raise InputError(f"batch: expected bool in {name}, got {column.dtype}; convert with .to(torch.bool).")
            if len(column) != rows:
                raise InputError(f"batch: expected {rows} rows as in target, got {len(column)} in {name}.")

    def __len__(self) -> int:
        return len(self.target)

    @property
    def device(self) -> torch.device:
        return self.target.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same rows on ``device``."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=non_blocking)

        return replace(
            self,
            inputs={m: move(x) for m, x in self.inputs.items()},
            target=move(self.target),
            task=move(self.task),
            present={m: move(p) for m, p in self.present.items()},
            index=move(self.index),
            extras={name: move(x) for name, x in self.extras.items()},
        )

    def select(self, rows: slice | Tensor) -> Batch:
        """The rows given by a slice, an index tensor or a bool mask, in that order; fresh rows must stay in front."""
        position = torch.arange(len(self), device=self.device)[rows]
        old = position >= self.fresh
        fresh = len(position) - int(old.sum()) if 0 < self.fresh < len(self) else len(position) * (self.fresh > 0)
        if 0 < fresh < len(position) and bool(old[:fresh].any()):
            raise InputError("batch: the selected rows put rows of memory before fresh ones; select fresh rows first.")
        return Batch(
            {m: x[rows] for m, x in self.inputs.items()},
            self.target[rows],
            self.task[rows],
            {m: p[rows] for m, p in self.present.items()},
            self.index[rows],
            fresh,
            {name: x[position[fresh:] - self.fresh] for name, x in self.extras.items()},
        )


def cat(batches: list[Batch]) -> Batch:
    """Rows of all ``batches`` in order. A modality that a batch lacks is filled with zeros and marked missing.

    Raises InputError when rows of memory would come before fresh ones, or when shapes of a modality differ.
    """
    if not batches:
        raise InputError("cat: expected at least one batch, got an empty list.")
    old = 0
    for batch in batches:
        if old and batch.fresh:
            raise InputError("cat: fresh rows come after rows of memory; put the fresh batch first.")
        old += len(batch) - batch.fresh
    modalities = list(dict.fromkeys(m for b in batches for m in b.inputs))
    extras = list(dict.fromkeys(name for b in batches for name in b.extras))
    return Batch(
        {m: _cat(m, [_input(b, m, batches) for b in batches]) for m in modalities},
        _cat("target", [b.target for b in batches]),
        torch.cat([b.task for b in batches]),
        {m: torch.cat([_presence(b, m) for b in batches]) for m in modalities},
        torch.cat([b.index for b in batches]),
        sum(b.fresh for b in batches),
        {name: _cat(name, [b.extras[name] for b in batches if name in b.extras]) for name in extras},
    )


def _input(batch: Batch, modality: str, batches: list[Batch]) -> Tensor:
    if modality in batch.inputs:
        return batch.inputs[modality]
    like = next(b.inputs[modality] for b in batches if modality in b.inputs)
    return like.new_zeros((len(batch), *like.shape[1:]))


def _presence(batch: Batch, modality: str) -> Tensor:
    if modality in batch.present:
        return batch.present[modality]
    return torch.zeros(len(batch), dtype=torch.bool, device=batch.device)


def _cat(name: str, columns: list[Tensor]) -> Tensor:
    shapes = {tuple(c.shape[1:]) for c in columns}
    if len(shapes) > 1:
        raise InputError(f"cat: expected rows of one shape in {name}, got {sorted(shapes)}.")
    return torch.cat(columns)
