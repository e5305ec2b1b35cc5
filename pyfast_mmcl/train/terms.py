"""The terms of the objective: collected from the parts, summed over an epoch, watched for NaN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner
    from pyfast_mmcl.train.place import Position


class NonFiniteError(InputError):
    """A loss or weight became NaN or infinite."""


def collect_terms(learner: Learner, batch: Batch, out: Output) -> dict[str, Tensor]:
    """{name: scalar} of every part that has a term; parts of one class are told apart by a number."""
    terms: dict[str, Tensor] = {}
    for part in learner.parts:
        term = part.loss(learner, batch, out)
        if term is None:
            continue
        if not isinstance(term, Tensor) or term.ndim != 0:
            got = f"shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
            raise InputError(f"part {part.name!r}: expected loss to return a scalar tensor or None, got {got}.")
        name, number = part.name, 1
        while name in terms:
            number += 1
            name = f"{part.name}_{number}"
        terms[name] = term
    return terms


def bad_term(terms: dict[str, Tensor]) -> str | None:
    """What to say about the first term that is NaN or infinite. Waits for the device."""
    for name, value in terms.items():
        if not bool(torch.isfinite(value)):
            return f"the loss term {name!r} is {float(value.detach())}"
    return None


def diverged(what: str, at: Position, folder: Path | None) -> NonFiniteError:
    """The error of a run in which ``what`` happened at ``at``; its checkpoints are in ``folder``."""
    kept = f"; the last checkpoint in {folder} is kept" if folder else ""
    return NonFiniteError(
        f"training diverged in task {at.task + 1}, epoch {at.epoch + 1}, step {at.step + 1}: {what}; "
        f"lower the learning rate, set clip_norm or check the inputs for extreme values{kept}."
    )


def add_terms(sums: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
    """Add this step's terms to the float64 ``sums``, on their device and without waiting for it."""
    for name, term in terms.items():
        value = term.detach().to(torch.float64)
        sums[name] = sums[name] + value if name in sums else value


def means(sums: dict[str, Tensor], steps: int) -> dict[str, float]:
    """Mean of every term over ``steps``."""
    return {name: float(value) / steps for name, value in sums.items()}
