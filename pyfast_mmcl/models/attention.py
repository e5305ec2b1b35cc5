"""One block of attention, with which sequence models are built."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError

HEADS = 4


class Attention(nn.Module):
    """x + attention(norm(x) over norm(memory)), then x + mlp(norm(x)); tokens that do not count are not looked at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        check_width(width)
        self.norm_x, self.norm_memory, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, memory: Tensor, counting: Tensor) -> Tensor:
        """x [B, S, D] looks at memory [B, S', D]; counting bool [B, S'] or [B, S, S'] says which of it may be seen."""

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(2, (HEADS, -1)).transpose(1, 2)

        key, value = self.key_value(self.norm_memory(memory)).chunk(2, -1)
        counting = counting if counting.ndim == 3 else counting.unsqueeze(1)
        # Attention over nothing is NaN: a row without any token looks at what stands in its place, the same for all.
        mask = (counting | ~counting.any(2, keepdim=True)).unsqueeze(1)
        seen = F.scaled_dot_product_attention(heads(self.query(self.norm_x(x))), heads(key), heads(value), mask)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


def check_width(width: int) -> None:
    """Raise InputError for a width that the attention heads do not divide."""
    if width % HEADS:
        raise InputError(f"width: expected a multiple of {HEADS}, the attention heads, got {width}.")
