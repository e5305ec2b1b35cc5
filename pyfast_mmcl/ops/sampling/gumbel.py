"""`gumbel_top_k`: a weighted sample without replacement in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, whole_number
from ..knn._checks import check_flag
from . import _dispatch
from ._checks import check_reals, check_weights, in_kind
from .uniform import open_uniform, portable_log


def gumbel_top_k(weights: Any, k: int, *, seed: int, log: bool = False, backend: str = "auto") -> Any:
    """k different positions, drawn one after the other with probability proportional to the weights that are left.

    ``(log(weights) + gumbel).topk(k).indices``, gumbel = −log(−log u), u from the hash of (seed, position).
    Computed as a race: the smallest ``−log(u) / weights`` come first, which is the same order and one logarithm.

    Args:
        weights: [N] ≥ 0 and finite, torch or NumPy, any real dtype; with ``log`` their logarithms, −inf for 0.
        k: draws, between 0 and the number of positive weights.
        seed: decides the draws, the same on every device; give each step its own (`fold_seed`).
        log: whether ``weights`` are logarithms.
        backend: "auto" | "torch" | "native".

    Returns:
        int64 [k] in the order of drawing.

    Raises:
        InputError: wrong dtype or shape; NaN, infinite or negative weights; k above the number of positive weights.

    Reference: Yellott, J. Math. Psych. 1977; Kool et al., Stochastic beams, ICML 2019; Efraimidis & Spirakis 2006.
    """
    check_flag(log, "log")
    w = check_reals(weights, "weights") if log else check_weights(weights, "weights")
    if log:
        _check_logarithms(w)
    draws, number = whole_number("k", k, least=0), whole_number("seed", seed, least=None)
    positive = int((w > (-torch.inf if log else 0)).sum())
    if draws > positive:
        raise InputError(
            f"k: expected at most {positive}, the number of weights above 0, got {draws}; "
            "draw fewer, or draw with replacement from an AliasTable."
        )
    if draws == 0:
        return in_kind(torch.zeros(0, dtype=torch.int64, device=w.device), weights)
    # Relative weights neither overflow nor lose digits; one that all but vanishes is still drawn before a weight of 0.
    w = (
        torch.where(w > -torch.inf, (w - w.max()).clamp(min=-1e300), w)
        if log
        else torch.where(w > 0, (w / w.max()).clamp(min=1e-300), w)
    )
    module = _dispatch.implementation("gumbel_top_k", backend, w)
    return in_kind(module.gumbel_top_k(w.contiguous(), draws, number, log), weights)


def gumbel_top_k_reference(weights: Tensor, k: int, seed: int, log: bool = False) -> Tensor:
    """The draws in torch: ascending E / w, or descending l − log(E), E = −log(u); the smaller index on ties."""
    race = -portable_log(open_uniform(seed, torch.arange(len(weights), device=weights.device)))
    keys = portable_log(race) - weights if log else race / weights
    near = (keys <= keys.topk(k, largest=False).values[-1]).nonzero().flatten()
    return near[keys[near].argsort(stable=True)[:k]]


def _check_logarithms(weights: Tensor) -> None:
    bad = weights.isnan() | (weights == torch.inf)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise InputError(f"weights: expected logarithms below infinity, entry {row} is {float(weights[row])}.")
