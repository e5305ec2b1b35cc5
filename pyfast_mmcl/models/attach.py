"""What can be put on the towers of a CLIP model: kind → "module:function", imported on first use."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, unknown_name

# A function is called as ``function(clip, **config) -> nn.Module``: it wraps modules of an open_clip model in place.
ATTACHMENTS: dict[str, str] = {
    "adapters": "pyfast_mmcl.models.adapters:attach",
    "lora": "pyfast_mmcl.models.lora:attach",
    "moe": "pyfast_mmcl.models.moe:attach",
    "prompts": "pyfast_mmcl.models.prompts:attach",
}

Kind = TypeVar("Kind", bound=nn.Module)

TOWERS = ("image", "text")


def attach(clip: nn.Module, kind: str, **config: Any) -> nn.Module:
    """Put adapters, LoRA, experts or prompts on the towers of an open_clip model, in place; returns their module.

    kind    a name in ATTACHMENTS; config: arguments of its function
    Raises UnknownNameError for another kind, InputError for towers it does not fit.
    """
    if kind not in ATTACHMENTS:
        raise unknown_name("attachment", kind, ATTACHMENTS)
    where, name = ATTACHMENTS[kind].split(":")
    return getattr(import_module(where), name)(clip, **config)


def towers(clip: nn.Module, which: Sequence[str] = TOWERS) -> dict[str, nn.Module]:
    """{"image", "text": the transformer of that tower}, blocks in ``.resblocks``, rows [B, S, D].

    Raises InputError for a tower that is no open_clip transformer (a ModifiedResNet, a tower of timm or transformers).
    """
    found: dict[str, nn.Module] = {}
    for name in which:
        if name not in TOWERS:
            raise unknown_name("tower", name, TOWERS)
        home = getattr(clip, "visual", None) if name == "image" else getattr(clip, "text", clip)
        tower = getattr(home, "transformer", None)
        if tower is None or not isinstance(getattr(tower, "resblocks", None), nn.ModuleList):
            raise InputError(
                f"attach: expected an open_clip model whose {name} tower is a transformer with resblocks, "
                f"got {type(home).__name__}; choose a ViT such as ViT-B-16, or leave this tower out with towers=."
            )
        if not getattr(tower, "batch_first", True):
            raise InputError(f"attach: expected a {name} tower with rows first, batch_first=True, got False.")
        found[name] = tower
    if not found:
        raise InputError("attach: expected at least one tower, got none; choose among image and text.")
    return found


def blocks_of(tower: nn.Module) -> list[Any]:
    """The residual blocks of a tower in order; open_clip's, with ``ln_1``, ``attn``, ``ln_2``, ``mlp`` and ``ls_2``."""
    return list(cast(nn.ModuleList, tower.resblocks))


def register(clip: nn.Module, name: str, module: nn.Module) -> None:
    """Make ``module`` a part of ``clip`` under ``attached_<name>``: found by state_dict, optimizers and copies."""
    key, number = f"attached_{name}", 1
    while hasattr(clip, key):
        number += 1
        key = f"attached_{name}_{number}"
    clip.add_module(key, module.train(clip.training))


def width_of(tower: nn.Module) -> int:
    """D of the rows that pass through the blocks of a tower."""
    return int(blocks_of(tower)[0].ln_1.normalized_shape[0])


def uniform(*shape: int, bound: float, generator: torch.Generator) -> Tensor:
    """Numbers in [-bound, bound) of ``generator``: first weights must not depend on the global random state."""
    return (2 * torch.rand(*shape, generator=generator) - 1) * bound


def seeded(seed: int) -> torch.Generator:
    """A generator of its own for the first weights of an attachment."""
    return torch.Generator().manual_seed(seed % 2**64)  # torch takes no larger one, the learner takes any


def like_tower(module: Kind, tower: nn.Module) -> Kind:
    """``module`` on the device and in the precision of ``tower``."""
    sample = blocks_of(tower)[0].ln_1.weight
    return module.to(device=sample.device, dtype=sample.dtype)
