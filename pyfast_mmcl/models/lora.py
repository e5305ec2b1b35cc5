"""LoRA: frozen weights plus a product of two thin matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pyfast_mmcl._errors import InputError, number_above_zero, unknown_name, whole_number
from pyfast_mmcl.models.attach import TOWERS, blocks_of, seeded, uniform
from pyfast_mmcl.models.attach import towers as towers_of

# What a weight is called → (module of the block, weight, blocks of rows it is made of, the block that is meant).
_PLACES = {
    "query": ("attn", "in_proj_weight", 3, 0),
    "key": ("attn", "in_proj_weight", 3, 1),
    "value": ("attn", "in_proj_weight", 3, 2),
    "out": ("attn.out_proj", "weight", 1, 0),
    "mlp_in": ("mlp.c_fc", "weight", 1, 0),
    "mlp_out": ("mlp.c_proj", "weight", 1, 0),
}


class LowRank(nn.Module):
    """W + (alpha / r) · B A in some of the equal blocks of rows that W [P·O, I] is made of; B = 0 at the start.

    A [n, r, I] and B [n, O, r] for the n blocks ``chosen`` among ``blocks``: a projection of queries, keys and values
    in one weight has three.
    """

    chosen: Tensor

    def __init__(
        self, weight: Tensor, rank: int, alpha: float, *, blocks: int, chosen: Sequence[int], generator: torch.Generator
    ) -> None:
        super().__init__()
        out, width = weight.shape[0] // blocks, weight.shape[1]
        n = len(chosen)
        self.blocks, self.scale = blocks, alpha / rank
        self.register_buffer("chosen", torch.tensor(chosen, device=weight.device), persistent=False)
        first = uniform(n, rank, width, bound=width**-0.5, generator=generator)
        self.a = nn.Parameter(first.to(weight))
        self.b = nn.Parameter(weight.new_zeros(n, out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        change = self.scale * (self.b @ self.a)
        return weight.unflatten(0, (self.blocks, -1)).index_add(0, self.chosen, change.to(weight.dtype)).flatten(0, 1)


class LoRA(nn.Module):
    """What ``attach`` put on a model: the products, and the way to melt them into the weights."""

    def __init__(self, parts: Sequence[LowRank], homes: Sequence[tuple[nn.Module, str]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        # In a tuple, because the weights belong to the towers and not to this module.
        self._homes = tuple(homes)
        self.merged = False  # whether nothing is left of the attachment

    def merge(self) -> None:
        """Melt the products into the weights: the same answers from a plain open_clip model, names as before."""
        for home, name in self._homes:
            if parametrize.is_parametrized(home, name):
                parametrize.remove_parametrizations(home, name, leave_parametrized=True)
        self.merged = True


def attach(
    clip: nn.Module,
    *,
    rank: int = 4,
    alpha: float | None = None,
    weights: Sequence[str] = ("query", "value"),
    towers: Sequence[str] = TOWERS,
    seed: int = 0,
) -> LoRA:
    """Add a trained product of rank r to weights of every block: ``W + (alpha / r) · B A``.

    At the start B = 0 and the model answers as before; ``merge`` melts the products in.

    rank      r (4, as Hu et al. for queries and values); alpha: default r, so that the factor is 1
    weights   among "query", "key", "value", "out", "mlp_in", "mlp_out" (default: queries and values, as Hu et al.)
    towers    which of "image" and "text"; seed: of A

    The products live in ``torch.nn.utils.parametrize`` of the weights, so a state_dict lists W under
    ``…parametrizations.<weight>.original``. Returns their module; freezing W is the caller's choice. Raises InputError
    for towers that are no open_clip transformers, UnknownNameError for another weight.

    Reference: Hu et al., LoRA, ICLR 2022, §4.
    """
    whole_number("rank", rank)
    factor = number_above_zero("alpha", rank if alpha is None else alpha)
    for name in weights:
        if name not in _PLACES:
            raise unknown_name("weight for LoRA", name, _PLACES)
    if not weights:
        raise InputError(f"weights: expected some of {', '.join(_PLACES)}, got none.")
    generator, parts, homes = seeded(seed), [], []
    for tower in towers_of(clip, towers).values():
        for block in blocks_of(tower):
            for (module, weight, blocks), chosen in _grouped(weights).items():
                home = block.get_submodule(module)
                part = LowRank(getattr(home, weight), rank, factor, blocks=blocks, chosen=chosen, generator=generator)
                parametrize.register_parametrization(home, weight, part)
                parts.append(part)
                homes.append((home, weight))
    return LoRA(parts, homes)


def _grouped(names: Sequence[str]) -> dict[tuple[str, str, int], list[int]]:
    """{(module, weight, blocks): chosen blocks}: queries and values are rows of one weight."""
    found: dict[tuple[str, str, int], list[int]] = {}
    for name in dict.fromkeys(names):
        module, weight, blocks, block = _PLACES[name]
        found.setdefault((module, weight, blocks), []).append(block)
    return found
