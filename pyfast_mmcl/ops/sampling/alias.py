"""`AliasTable`: draws with replacement from weights that stay, O(1) each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, whole_number
from . import _dispatch
from ._checks import check_weights, in_kind
from .keys import fold_seed, hash_uniform

_USE = 0xA11A5  # tells these draws from others of the same seed


class AliasTable:
    """Draws position i with probability ``weights[i] / weights.sum()``; O(N) to build, O(1) per draw.

    ``column = floor(u * N); where(v < keep[column], column, alias[column])`` with u, v uniform of 53 bits each.

    Args:
        weights: [N] ≥ 0 and finite, at least one above 0, torch or NumPy. Weight 0 is never drawn.
        seed: with ``step``, decides the draws.
        backend: "auto" | "torch" | "native".

    Raises:
        InputError: wrong dtype or shape; NaN, infinite, negative or no positive weights.

    Reference: Walker 1977; Vose, A linear algorithm for generating random numbers with a given distribution, 1991.
    """

    def __init__(self, weights: Any, *, seed: int = 0, backend: str = "auto") -> None:
        w = check_weights(weights, "weights")
        if not bool((w > 0).any()):
            raise InputError(f"weights: expected at least one above 0, got {len(w)} of which none is.")
        self.seed = whole_number("seed", seed, least=None)
        self._like = weights[:0]
        self._module = _dispatch.implementation("AliasTable", backend, w)
        # Built on the CPU, where running sums have one order; the draws run where the weights lie.
        keep, alias = alias_build_reference(w.cpu())
        self._keep, self._alias = keep.to(w.device), alias.to(w.device)

    def __len__(self) -> int:
        return len(self._keep)

    def sample(self, n: int, *, step: int) -> Any:
        """int64 [n] positions, with replacement; (seed, step) decides, whatever was drawn before."""
        draws = whole_number("draws", n, least=0)
        at = whole_number("step", step, least=0)
        return in_kind(
            self._module.alias_sample(self._keep, self._alias, draws, fold_seed(self.seed, _USE), at), self._like
        )


def alias_build_reference(weights: Tensor) -> tuple[Tensor, Tensor]:
    """keep float64 [N] and alias int64 [N] for float64 weights on the CPU.

    Vose's two lists, walked in order, in closed form: small columns (p < 1) lack 1 − p, large ones spare p − 1. With
    running sums D of what is lacked and E of what is spared, small i takes from the first large j with E_j ≥ D_{i−1};
    large j itself runs dry at the first small whose D exceeds E_j, and takes the rest from the next large.
    """
    n = len(weights)
    scaled = weights / weights.max()
    p = scaled * (n / scaled.cumsum(0)[-1])
    small, large = (p < 1).nonzero().flatten(), (p >= 1).nonzero().flatten()
    keep, alias = p.clamp(max=1.0), torch.arange(n)
    if len(small) == 0 or len(large) == 0:  # all alike; rounding may put p on either side of 1
        return torch.where(weights > 0, torch.ones_like(p), p), alias
    lacked, spared = (1 - p[small]).cumsum(0), (p[large] - 1).cumsum(0)
    before = torch.cat([lacked.new_zeros(1), lacked[:-1]])
    giver = torch.searchsorted(spared, before).clamp(max=len(large) - 1)
    alias[small] = large[giver]
    dry = torch.searchsorted(lacked, spared, right=True)
    closed = (dry < len(small)) & (torch.arange(len(large)) < len(large) - 1)
    left = 1 + (spared - lacked[dry.clamp(max=len(small) - 1)])
    keep[large] = torch.where(closed, left, torch.ones_like(left)).clamp(0.0, 1.0)
    alias[large[:-1]] = torch.where(closed[:-1], large[1:], large[:-1])
    return keep, alias


def alias_sample_reference(keep: Tensor, alias: Tensor, n: int, seed: int, step: int) -> Tensor:
    """n draws from a table: one uniform chooses a column, another whether it keeps itself."""
    draw = torch.arange(n, device=keep.device) * 2
    folded = fold_seed(seed, step)
    column = (hash_uniform(folded, draw) * len(keep)).to(torch.int64).clamp(max=len(keep) - 1)
    own = hash_uniform(folded, draw + 1) < keep[column]
    return torch.where(own, column, alias[column])
