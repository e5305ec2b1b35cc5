"""Prompts of a CLIP model: visual, textual, or coupled, one set per task."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.models.attach import blocks_of, register, seeded, towers, width_of
from pyfast_mmcl.models.prompts_tower import JOINS, TowerPrompts
from pyfast_mmcl.models.routes import Routed

# Zhou et al. 2022 (CoOp) draw context vectors with this deviation.
_STD = 0.02


class PromptSet(nn.Module):
    """The tokens of one way, [L, P, D] for each tower; coupled, those of the image tower are linear(text tokens)."""

    def __init__(self, tokens: dict[str, Tensor], coupling: nn.Linear | None) -> None:
        super().__init__()
        self.tokens = nn.ParameterDict(tokens)
        self.coupling = coupling

    def of(self, tower: str) -> Tensor:
        if tower == "image" and self.coupling is not None:
            return self.coupling(self.tokens["text"])
        return self.tokens[tower]


class Prompts(Routed):
    """Sets of prompts, one per way; every row takes those of its own way, or none where all take none.

    shapes {tower: (L, P, D)}
    """

    sample: Tensor

    def __init__(self, shapes: dict[str, tuple[int, int, int]], *, coupled: bool, seed: int, sample: Tensor) -> None:
        super().__init__()
        self.shapes, self.coupled, self.seed = shapes, coupled, seed
        self.sets = nn.ModuleList()
        self.register_buffer("sample", sample, persistent=False)  # where and in which precision new sets are made

    @property
    def n_ways(self) -> int:
        return len(self.sets)

    def add_way(self) -> int:
        for old in self.sets:
            old.requires_grad_(False)
        generator = seeded(self.seed + self.n_ways)
        drawn = {
            name: torch.randn(shape, generator=generator) * _STD
            for name, shape in self.shapes.items()
            if not (self.coupled and name == "image")
        }
        coupling = None
        if self.coupled:
            coupling = nn.Linear(self.shapes["text"][2], self.shapes["image"][2])
            with torch.no_grad():
                coupling.weight.copy_(torch.randn(coupling.weight.shape, generator=generator) * _STD)
                coupling.bias.zero_()
        self.sets.append(PromptSet(drawn, coupling).to(self.sample))
        self.switch(self.n_ways - 1)
        return self.n_ways - 1

    def tokens_of(self, tower: str, x: Tensor) -> Tensor | None:
        """Prompts [B or 1, L, P, D] of the rows x [B, …] that enter ``tower``; None when they take none."""
        if self.route.off or not len(self.sets):
            return None
        way = self.route.setting if self.route.given is None else self.route.given
        sets = cast(list[PromptSet], list(self.sets))
        if isinstance(way, int):
            return sets[way].of(tower).unsqueeze(0)
        own = self.route.of(x)
        if own.device.type == "cpu" and len(own) and int(own.min()) < 0:
            raise InputError("prompts: expected a set from 0 for every row, got -1; encode rows without prompts apart.")
        return torch.stack([one.of(tower) for one in sets])[own]


class _Source:
    """What a tower asks for its prompts; an object, so that a copy of the model asks its own sets."""

    def __init__(self, prompts: Prompts, tower: str) -> None:
        self.prompts, self.tower = prompts, tower

    def __call__(self, x: Tensor) -> Tensor | None:
        return self.prompts.tokens_of(self.tower, x)


def attach(
    clip: nn.Module,
    *,
    image: int = 10,
    text: int = 16,
    depth: int = 1,
    coupled: bool = False,
    image_join: str = "replace",
    text_join: str = "replace",
    seed: int = 0,
) -> Prompts:
    """Put learned tokens into the sequences of the towers: ``cat([first, prompts, rest])``.

    Nothing is added until ``add_way`` makes a first set. A text prompt stands between the start mark and the text, a
    visual one between the class token and the patches, behind the norm that some towers begin with.

    image, text  tokens P of either tower (10 and 16, as S-liPrompts: Wang et al.); 0 leaves a tower alone
    depth        blocks that get tokens of their own, counted from the first, at most those of the tower
    coupled      the image tower's tokens are a linear layer of the text tower's, block by block (CPE-CLIP, MaPLe);
                 needs as many tokens in either
    image_join, text_join  what the tokens of a further block do: "replace" the earlier ones, or "accumulate" beside
                 them, which a text tower that looks back only does not take
    seed         of the first tokens, N(0, 0.02²) as Zhou et al.

    The text keeps its position embeddings, where CoOp moves it behind the prompts: so texts of any length that the
    model takes leave room for prompts. Registered in ``clip``; freezing the other weights is the caller's choice.
    Raises InputError for towers that are no open_clip transformers.

    Reference: Jia et al., VPT, ECCV 2022; Zhou et al., CoOp, IJCV 2022; Wang et al., S-Prompts, NeurIPS 2022;
    D'Alessandro et al., CPE-CLIP, ICCV Workshops 2023.
    """
    joins = {"image": image_join, "text": text_join}
    numbers = {"image": image, "text": text}
    for name, value in numbers.items():
        whole_number(name, value, least=0)
        if joins[name] not in JOINS:
            raise unknown_name(f"{name}_join", joins[name], JOINS)
    whole_number("depth", depth)
    chosen = [name for name, value in numbers.items() if value]
    if coupled and (len(chosen) < 2 or image != text):
        raise InputError(f"coupled: expected as many tokens in either tower, got {image} and {text}.")
    found = towers(clip, chosen)
    levels = {name: min(depth, len(blocks_of(tower))) for name, tower in found.items()}
    if coupled:
        levels = dict.fromkeys(levels, min(levels.values()))
    shapes = {name: (levels[name], numbers[name], width_of(tower)) for name, tower in found.items()}
    sample = blocks_of(next(iter(found.values())))[0].ln_1.weight.detach()[:0].clone()
    module = Prompts(shapes, coupled=coupled, seed=seed, sample=sample)
    for name, tower in found.items():
        TowerPrompts(_Source(module, name), joins[name]).hook(tower)
    register(clip, "prompts", module)
    return module
