"""Mixture-of-experts adapters: a bank of experts and one router per task in every block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_from_zero, unknown_name, whole_number
from pyfast_mmcl.models.attach import TOWERS, blocks_of, like_tower, register, seeded, width_of
from pyfast_mmcl.models.attach import towers as towers_of
from pyfast_mmcl.models.experts import ExpertBank
from pyfast_mmcl.models.routes import Route, Routed

TEXT_ROUTES = ("first", "eot")
# Shazeer et al. 2017 keep the noise of a router away from 0 by this much.
_LEAST_NOISE = 1e-2


class Router(nn.Module):
    """Logits h W_g + N(0, 1) · (softplus(h W_n) + 1e-2) [B, E] of rows h [B, D]; both weights start at 0.

    The noise is there in training only.
    """

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width, experts))
        self.noise = nn.Parameter(torch.zeros(width, experts))


class BlockExperts(nn.Module):
    """The experts of one block beside its MLP: x ← x + mlp(LN x) + Σ over the top k of G_e · expert_e(x).

    G = softmax of the k largest logits of the row's router, which reads one position of x: the first, or the end of a
    text. ``see`` and ``add`` are hooks: the first keeps x on its way into the norm, the second adds the experts'
    answer where the MLP's comes out.
    """

    usage: Tensor
    recent: Tensor

    def __init__(self, bank: ExpertBank, top: int, route: Route, place: Place) -> None:
        super().__init__()
        self.bank, self.top, self.route, self.place = bank, top, route, place
        self.routers = nn.ModuleList()
        # How many rows chose each expert in training since the router was made, texts of classes among them, once per
        # part of a step; ``recent`` waits to be added to it.
        self.register_buffer("usage", torch.zeros(len(bank), dtype=torch.int64))
        self.register_buffer("recent", torch.zeros(len(bank), dtype=torch.int64), persistent=False)
        self._x: Tensor | None = None

    def see(self, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        if not self.route.off and len(self.routers):
            self._x = args[0]

    def add(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if self._x is None:
            return out
        x, self._x = self._x, None
        return out + self(x)

    def forward(self, x: Tensor) -> Tensor:
        """The experts' answer [B, S, D] for rows x [B, S, D], 0 for rows that take no way."""
        way = self.route.of(x)
        chosen, gates = self.choose(x[:, 0] if self.place.ends is None else self.place.rows_of(x), way)
        if self.training:
            self._count(chosen, way)
        return self.bank(x, chosen, gates * (way >= 0).unsqueeze(1))

    def choose(self, h: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
        """Experts int64 [B, k] of rows h [B, D] and their gates [B, k], each row by the router of its way."""
        routers = cast(list[Router], list(self.routers))
        if len(routers) == 1 or isinstance(self.route.given, int) or self.route.given is None:
            # One router for all: what the setting says is known without a look at the device.
            one = self.route.setting if self.route.given is None else self.route.given
            router = routers[one if isinstance(one, int) else 0]
            logits = h @ router.gate.to(h.dtype)
            noise = h @ router.noise.to(h.dtype) if self.training else None
        else:
            own = way.clamp(min=0)
            logits = _each(h, torch.stack([r.gate for r in routers]), own)
            noise = _each(h, torch.stack([r.noise for r in routers]), own) if self.training else None
        if noise is not None:
            logits = logits + torch.randn_like(logits) * (F.softplus(noise) + _LEAST_NOISE)
        value, chosen = logits.to(torch.promote_types(logits.dtype, torch.float32)).topk(self.top, dim=1)
        return chosen, value.softmax(1)

    def _count(self, chosen: Tensor, way: Tensor) -> None:
        asks = way >= 0
        if self.route.there is not None and len(self.route.there) == len(way):
            asks = asks & self.route.there.to(way.device)
        votes = asks.unsqueeze(1).expand_as(chosen).to(torch.int64)
        self.recent.scatter_add_(0, chosen.flatten(), votes.flatten())

    def add_router(self) -> None:
        for router in self.routers:
            router.requires_grad_(False)
        sample = self.bank.down[0]
        self.routers.append(Router(self.bank.width, len(self.bank)).to(device=sample.device, dtype=sample.dtype))
        self.usage.zero_()
        self.recent.zero_()

    def most_used(self, n: int) -> list[int]:
        """The ``n`` experts with the most rows since the last router came, ties to the smaller number."""
        return (self.usage + self.recent).sort(descending=True, stable=True).indices[:n].tolist()


class Place:
    """Which position the routers of a tower read: the first, or the ends that were seen last."""

    def __init__(self) -> None:
        self.ends: Tensor | None = None

    def see(self, embedding: nn.Module, args: tuple[Tensor, ...]) -> None:
        """A hook of the token embedding: CLIP's end mark is the largest id of a text."""
        self.ends = args[0].argmax(1)

    def rows_of(self, x: Tensor) -> Tensor:
        return x[torch.arange(len(x), device=x.device), self.ends]


class MoEAdapters(Routed):
    """The experts of all blocks; a way is one router per block. ``blocks``: {tower: module list of BlockExperts}."""

    def __init__(self, blocks: nn.ModuleDict, route: Route) -> None:
        super().__init__()
        self.blocks = blocks
        self.route = route

    @property
    def n_ways(self) -> int:
        return len(self.every_block()[0].routers)

    def every_block(self) -> list[BlockExperts]:
        return [cast(BlockExperts, block) for tower in self.blocks.values() for block in tower.children()]

    def add_way(self) -> int:
        for block in self.every_block():
            block.add_router()
        self.switch(self.n_ways - 1)
        return self.n_ways - 1

    @torch.no_grad()
    def settle(self, add_up: Callable[[Tensor], Tensor] | None = None) -> None:
        """Add the recent choices to ``usage``; with several processes ``add_up`` gives the sum over all of them."""
        blocks = self.every_block()
        recent = torch.stack([block.recent for block in blocks])
        for block, counts in zip(blocks, recent if add_up is None else add_up(recent), strict=True):
            block.usage.add_(counts)
            block.recent.zero_()

    def freeze_most_used(self, n: int) -> None:
        """Freeze in every block the ``n`` experts that most rows chose since the last way was added."""
        for block in self.every_block():
            block.bank.freeze(block.most_used(n))


def attach(
    clip: nn.Module,
    *,
    experts: int = 22,
    top: int = 2,
    hidden: int = 64,
    scale: float = 0.1,
    dropout: float = 0.1,
    text_route: str = "first",
    towers: Sequence[str] = TOWERS,
    seed: int = 0,
) -> MoEAdapters:
    """Put a bank of experts beside the MLP of every block: ``x + mlp(LN x) + Σ over the top k of G_e · expert_e(x)``.

    Nothing is added until ``add_way`` makes the routers of a first task; with fresh routers and experts the model
    answers as before. ``rows`` lets every row take the routers of its own task, or none.

    experts     E of every block (22); top: k (2); hidden: width of an expert (64); scale of its answer (0.1);
                dropout within it (0.1): all as Yu et al.
    text_route  what a router of the text tower reads: "first", the first position, as published. In a tower that looks
                back only it never depends on the text; "eot" reads the end mark, which does
    towers      which of "image" and "text"; seed: of the first weights

    Registered in ``clip``; freezing the other weights is the caller's choice. Raises InputError for towers that are no
    open_clip transformers, or more chosen experts than there are.

    Reference: Yu et al., Boosting Continual Learning of Vision-Language Models via Mixture-of-Experts Adapters,
    CVPR 2024; noise of the routers: Shazeer et al., ICLR 2017, eq. 4. Their load-balancing loss is left out, which the
    published code computes and drops.
    """
    for name, value in {"experts": experts, "top": top, "hidden": hidden}.items():
        whole_number(name, value)
    if top > experts:
        raise InputError(f"top: expected at most the {experts} experts there are, got {top}.")
    if text_route not in TEXT_ROUTES:
        raise unknown_name("text_route", text_route, TEXT_ROUTES)
    number_from_zero("scale", scale)
    number_from_zero("dropout", dropout)
    generator, route, blocks = seeded(seed), Route(), nn.ModuleDict()
    for name, tower in towers_of(clip, towers).items():
        place = Place()
        if name == "text" and text_route == "eot":
            getattr(clip, "text", clip).token_embedding.register_forward_pre_hook(place.see)
            tower.register_forward_pre_hook(_in_one_go)
        own = []
        for block in blocks_of(tower):
            bank = ExpertBank(width_of(tower), experts, hidden, scale=scale, dropout=dropout, generator=generator)
            beside = BlockExperts(bank, top, route, place)
            block.ln_2.register_forward_pre_hook(beside.see)
            block.ls_2.register_forward_hook(beside.add)
            own.append(beside)
        blocks[name] = like_tower(nn.ModuleList(own), tower)
    module = MoEAdapters(blocks, route)
    register(clip, "moe", module)
    return module


def _in_one_go(tower: nn.Module, args: tuple[Tensor, ...]) -> None:
    """A hook: blocks that run again would read the end marks of the texts that were encoded last."""
    if getattr(tower, "grad_checkpointing", False):
        raise InputError(
            "moe: expected a text tower without gradient checkpointing where text_route='eot', whose end marks are "
            "gone when blocks run again; switch it off with set_grad_checkpointing(False), or take text_route='first'."
        )


def _each(h: Tensor, weights: Tensor, own: Tensor) -> Tensor:
    """Row i of h [B, D] times the matrix ``weights[own[i]]`` [D, E] → [B, E]."""
    return torch.bmm(h.unsqueeze(1), weights[own].to(h.dtype)).squeeze(1)
