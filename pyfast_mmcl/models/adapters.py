"""Bottleneck adapters: two small layers beside or behind the MLP of every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import number_from_zero, unknown_name, whole_number
from pyfast_mmcl.models.attach import TOWERS, blocks_of, like_tower, register, seeded, uniform, width_of
from pyfast_mmcl.models.attach import towers as towers_of

FORMS = ("parallel", "sequential")


class Bottleneck(nn.Module):
    """scale · up(dropout(relu(down(x)))), rows [..., D] → [..., D]; ``up`` starts at 0, and with it the answer."""

    def __init__(self, width: int, hidden: int, *, scale: float, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(hidden, width)
        with torch.no_grad():
            self.down.weight.copy_(uniform(hidden, width, bound=width**-0.5, generator=generator))
            for x in (self.down.bias, self.up.weight, self.up.bias):
                x.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(self.dropout(self.down(x).relu()))


class BlockAdapter(Bottleneck):
    """A bottleneck at the MLP of one block. ``add`` is the hook that puts its answer on the MLP's."""

    def __init__(self, form: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.form = form

    def add(self, mlp: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + self(args[0] if self.form == "parallel" else out)


def attach(
    clip: nn.Module,
    *,
    hidden: int = 64,
    form: str = "parallel",
    scale: float | None = None,
    dropout: float = 0.0,
    towers: Sequence[str] = TOWERS,
    seed: int = 0,
) -> nn.Module:
    """Put a bottleneck at the MLP of every block: ``x + mlp(h) + adapter(h)`` or ``x + m + adapter(m), m = mlp(h)``.

    h = LN(x) is what the MLP reads. At the start the model answers as before.

    hidden    width of the bottleneck (64 in both papers)
    form      "parallel" reads what the MLP reads (AdaptFormer), "sequential" what it answers (Houlsby et al.)
    scale     of the adapter's answer; default 0.1 in parallel (AdaptFormer), 1 in sequence
    towers    which of "image" and "text"; seed: of the first weights

    Returns the module with all adapters, registered in ``clip``; the other weights are left as they are, trainable or
    not. Raises InputError for towers that are no open_clip transformers.

    Reference: Houlsby et al., ICML 2019 (ours only behind the MLP); Chen et al., AdaptFormer, NeurIPS 2022.
    """
    if form not in FORMS:
        raise unknown_name("form of adapters", form, FORMS)
    whole_number("hidden", hidden)
    strength = number_from_zero("scale", scale if scale is not None else 0.1 if form == "parallel" else 1.0)
    generator, module = seeded(seed), nn.ModuleDict()
    for name, tower in towers_of(clip, towers).items():
        own = [
            BlockAdapter(form, width_of(tower), hidden, scale=strength, dropout=dropout, generator=generator)
            for _ in blocks_of(tower)
        ]
        for block, adapter in zip(blocks_of(tower), own, strict=True):
            block.mlp.register_forward_hook(adapter.add)
        module[name] = like_tower(nn.ModuleList(own), tower)
    register(clip, "adapters", module)
    return module
