"""Small batches on the CPU: loss and gradients from one compiled call, since there calls cost more than sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _native_pairs
from ._gradients import with_known_gradients
from ._inputs import number

# Up to so many pairs the gradients are formed together with the value; a backward pass that never comes is cheap.
SMALL = 256 * 256


def applies(a: Tensor, b: Tensor, terms: Any) -> bool:
    """Whether one positive per row, uniform weights and a small batch of compiled rows are all there is."""
    return (
        a.shape[0] * b.shape[0] <= SMALL
        and terms.reduce
        and terms.row_share is None
        and terms.col_share is None
        and (not terms.symmetric or a.shape[0] > 1)  # alone, a row has nothing to be compared with
        and terms.packed is None
        and terms.backend in ("auto", "native")
        and not isinstance(terms.row_weight, Tensor)
        and not isinstance(terms.col_weight, Tensor)
        and _native_pairs.usable(a, b)[0]
    )


def contrast_directly(op: str, a: Tensor, b: Tensor, scale: Any, terms: Any) -> Tensor:
    """The loss with its gradients for a, b and scale."""

    def compute(needed: Sequence[bool]) -> tuple[Tensor, list[Tensor | None]]:
        loss, da, db, dscale = _native_pairs.contrast_directly(
            a,
            b,
            number(scale),
            row_ids=terms.row_ids,
            col_ids=terms.col_ids,
            row_weight=terms.row_weight or 0.0,
            col_weight=terms.col_weight or 0.0,
            symmetric=terms.symmetric,
            need_a=needed[0] or (needed[2] and not needed[1]),
            need_b=needed[1] and not terms.symmetric,
            precision=terms.precision,
        )
        value = torch.tensor(loss, dtype=torch.float32, device="cpu")
        return value, [da, db, torch.tensor(dscale, dtype=torch.float64, device="cpu") if needed[2] else None]

    return with_known_gradients(op, compute, a, b, scale)
