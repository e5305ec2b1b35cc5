"""`weighted_keys`: keys whose largest M are a weighted sample without replacement."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from ..._errors import whole_number
from . import _dispatch
from ._checks import check_index, check_weights, in_kind
from .uniform import open_uniform, portable_log


@overload
def weighted_keys(seed: int, index: Tensor, weights: Tensor) -> Tensor: ...
@overload
def weighted_keys(seed: int, index: np.ndarray, weights: np.ndarray) -> np.ndarray: ...
def weighted_keys(seed: int, index: Any, weights: Any) -> Any:
    """Keys of a weighted reservoir: ``log(u) / weights``, u in the open (0, 1) from the hash of (seed, id).

    The M largest keys are the first M of successive draws without replacement, each with probability proportional to
    the weights that are left; they depend on (seed, id, weight) alone, so shards merge as those of `reservoir_keys`.

    index [N] integers, weights [N] ≥ 0 and finite (useful range 1e-290 … 1e290), torch or NumPy. Returns float64 [N]
    of the same kind, the same bits on every device. Weight 0 gives −inf: such a row enters only where fewer rows with
    a weight are offered than fit. Raises InputError for other dtypes or shapes, and for NaN, infinite or negative
    weights.

    Reference: Efraimidis & Spirakis, Weighted random sampling with a reservoir, IPL 2006 (algorithm A-Res).
    """
    ids = check_index(index, "index")
    w = check_weights(weights, "weights", ids)
    module = _dispatch.implementation("weighted_keys", "auto", ids)
    return in_kind(
        module.weighted_keys(whole_number("seed", seed, least=None), ids.contiguous(), w.contiguous()), index
    )


def weighted_keys_reference(seed: int, index: Tensor, weights: Tensor) -> Tensor:
    """The keys in torch; index int64 [N], weights float64 [N]."""
    keys = portable_log(open_uniform(seed, index)) / weights
    return torch.where(weights > 0, keys, torch.full_like(keys, -torch.inf))
