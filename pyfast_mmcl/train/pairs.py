"""The two sides of a pair: their embeddings, which rows have both, and the scale of their similarities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch
    from pyfast_mmcl.models import Output

# CLIP §2.5: the temperature at the start, which a model without one keeps, and the largest scale.
_TEMPERATURE = 0.07
_MAX_LOG_SCALE = math.log(100.0)


def two_sides(out: Output) -> tuple[Tensor, Tensor]:
    """Unit embeddings V and T [B, D] of a model of two towers. Raises InputError for another number of embeddings."""
    if len(out.modalities) != 2:
        raise InputError(
            f"pairs: expected a model that gives the embeddings of two sides, got those of {sorted(out.modalities)}; "
            "use models.DualEncoder or a CLIP, or leave the model out."
        )
    v, t = (F.normalize(side, dim=-1) for side in out.modalities.values())
    if v.shape != t.shape:
        raise InputError(f"pairs: expected two sides of one width, got {list(v.shape)} and {list(t.shape)}.")
    return v, t


def are_pairs(batch: Batch, out: Output) -> Tensor:
    """bool [B]: rows that have both sides. The embedding of a side that is no single modality is 0 where it misses."""
    there = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
    for name, side in out.modalities.items():
        there &= batch.present[name] if name in batch.present else (side != 0).any(1)
    return there


def pair_labels(target: Tensor) -> Tensor:
    """int64 [B]: rows of one target, a class or a sequence of tokens, have one number."""
    return target if target.ndim == 1 else target.unique(dim=0, return_inverse=True)[1]


def pair_scale(model: nn.Module) -> Tensor | float:
    """s = exp(logit_scale) of the model (or of the CLIP in it), at most 100; 1/0.07 where there is none.

    Past 100 the gradient passes, so that the scale can come back.
    """
    x = getattr(model, "logit_scale", None)
    if x is None:
        x = getattr(getattr(model, "clip", None), "logit_scale", None)
    if not isinstance(x, Tensor):
        return 1 / _TEMPERATURE
    return (x - (x - _MAX_LOG_SCALE).clamp(min=0).detach()).exp()
