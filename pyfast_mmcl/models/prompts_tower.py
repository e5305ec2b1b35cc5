"""Learned tokens in the sequence of one transformer: put in on the way in, taken out on the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.attach import blocks_of

JOINS = ("replace", "accumulate")


class TowerPrompts(nn.Module):
    """P learned tokens behind the first position of a tower's sequence, fresh ones before each of the first L blocks.

    ``x = cat([x[:, :1], p_0, x[:, 1:]], 1)``, and before block l < L: p_l in place of the P tokens ("replace"), or
    beside those that are there ("accumulate"). What leaves the tower has the positions that came in, so pooling and
    position embeddings are those of the model without prompts.

    tokens   called with the rows that enter [B, S, D], gives p [B, L, P, D], or None when they take no prompts

    A tower that looks back only keeps doing so: a prompt sees the first position and earlier prompts, and later
    positions see all prompts.
    """

    def __init__(self, tokens: Callable[[Tensor], Tensor | None], join: str) -> None:
        super().__init__()
        self.tokens = tokens
        self.join = join
        self._now: Tensor | None = None
        self._inside = 0

    def hook(self, tower: nn.Module) -> None:
        """Put the hooks on the modules of ``tower``."""
        tower.register_forward_pre_hook(self.enter, with_kwargs=True)
        for block in blocks_of(tower)[1:]:
            block.register_forward_pre_hook(self.next_block, with_kwargs=True)
        tower.register_forward_hook(self.leave)

    def enter(self, tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        x = args[0]
        self._now = self.tokens(x)
        self._inside = self._layer = 0
        if self._now is None:
            return None
        if getattr(tower, "grad_checkpointing", False):
            raise InputError(
                "prompts: expected a tower without gradient checkpointing, whose blocks run again without their "
                "prompts; switch it off with set_grad_checkpointing(False)."
            )
        first = self._now[:, 0]
        self._inside = first.shape[1]
        mask = kwargs.get("attn_mask")
        if mask is not None:
            if self.join == "accumulate" and self._now.shape[1] > 1:
                raise InputError(
                    "prompts: expected join='replace' in a tower with an attention mask, got 'accumulate'."
                )
            kwargs = {**kwargs, "attn_mask": widen_mask(mask, self._inside)}
        return (_insert(x, first), *args[1:]), kwargs

    def next_block(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        self._layer += 1
        if self._now is None or self._layer >= self._now.shape[1]:
            return None
        x, fresh = args[0], self._now[:, self._layer]
        if self.join == "replace":
            x = torch.cat([x[:, :1], x[:, 1 + self._inside :]], 1)
        else:
            self._inside += fresh.shape[1]
        return (_insert(x, fresh), *args[1:]), kwargs

    def leave(self, tower: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        if self._now is None:
            return out
        self._now = None
        return torch.cat([out[:, :1], out[:, 1 + self._inside :]], 1)


def widen_mask(mask: Tensor, n: int) -> Tensor:
    """An additive mask [..., S, S] with room for n prompts behind position 0, which see what position 0 sees.

    Among position 0 and the prompts attention looks back only.
    """
    size = mask.shape[-1]
    place = torch.arange(size + n, device=mask.device).sub(n).clamp(min=0)
    place[0] = 0
    wide = mask.index_select(-1, place).index_select(-2, place).clone()
    ahead = torch.ones(n + 1, n + 1, dtype=torch.bool, device=mask.device).triu(1)
    wide[..., : n + 1, : n + 1].masked_fill_(ahead, float("-inf"))
    return wide


def _insert(x: Tensor, tokens: Tensor) -> Tensor:
    return torch.cat([x[:, :1], tokens.to(x.dtype).expand(len(x), -1, -1), x[:, 1:]], 1)
