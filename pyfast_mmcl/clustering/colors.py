"""Colours of augmentation: every image of a batch [B, C, H, W] in [0, 1] changed by a number of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# ITU-R BT.601 luma as torchvision rounds it.
_LUMA = (0.2989, 0.587, 0.114)


def gray(x: Tensor) -> Tensor:
    """Luma [B, 1, H, W] of red, green and blue; one channel is its own."""
    if x.shape[1] == 1:
        return x
    r, g, b = x.unbind(1)
    return (_LUMA[0] * r + _LUMA[1] * g + _LUMA[2] * b).unsqueeze(1)


def blend(x: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """``clamp(factor · x + (1 − factor) · other, 0, 1)``, factor [B]: 1 leaves an image, 0 gives the other."""
    factor = factor.to(x)[:, None, None, None]
    return (factor * x + (1 - factor) * other).clamp_(0, 1)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """``clamp(factor · x, 0, 1)``."""
    return (factor.to(x)[:, None, None, None] * x).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blended with the mean of its luma."""
    return blend(x, gray(x).mean((1, 2, 3), keepdim=True), factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blended with its luma; an image of one channel stays as it is."""
    return x if x.shape[1] == 1 else blend(x, gray(x), factor)


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Hues turned by ``shift`` [B] in [−½, ½], a share of the colour circle; one channel stays as it is.

    In the hexagonal model ``channel n = v − c · clamp(min(k, 4 − k), 0, 1)``, ``k = (n + 6 · hue) mod 6``, for n = 5, 3
    and 1: v the largest channel, c the largest minus the smallest (Smith, SIGGRAPH 1978).
    """
    if x.shape[1] == 1:
        return x
    r, g, b = x.unbind(1)
    v = torch.maximum(torch.maximum(r, g), b)
    chroma = v - torch.minimum(torch.minimum(r, g), b)
    safe = torch.where(chroma > 0, chroma, 1.0)
    at = torch.where(v == r, (g - b) / safe, torch.where(v == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    at = at + 6 * shift.to(x)[:, None, None]
    channels = []
    for n in (5, 3, 1):
        k = (at + n) % 6
        channels.append(v - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


Change = Callable[[Tensor, Tensor], Tensor]


def apply_to(x: Tensor, rows: Tensor, change: Change, amount: Tensor) -> Tensor:
    """``change(image, amount)`` of those images of x whose ``rows`` [B] is true; works in place where it changes x."""
    chosen = rows.nonzero().flatten()
    if len(chosen) == 0:
        return x
    if len(chosen) == len(x):
        return change(x, amount)
    at = chosen.to(x.device)
    return x.index_copy_(0, at, change(x.index_select(0, at), amount[chosen]))


def jitter(x: Tensor, strength: tuple[float, float, float, float], chance: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue in a random order, of a share ``chance`` of the images; x is used up.

    strength: factors are uniform in [max(0, 1 − s), 1 + s] for the first three, shifts in [−s, s] for the hue, each
    image with an order and numbers of its own: the law of torchvision's ColorJitter.
    """
    B = len(x)
    u = torch.rand(B, 9, generator=generator)
    chosen = u[:, 8] < chance
    order = u[:, 4:8].argsort(1)
    changes: list[Change] = [brightness, contrast, saturation, hue]
    for slot in range(4):
        for i, (change, s) in enumerate(zip(changes, strength, strict=True)):
            if s > 0 and (i < 2 or x.shape[1] > 1):
                low, high = (-s, s) if i == 3 else (max(0.0, 1 - s), 1 + s)
                x = apply_to(x, chosen & (order[:, slot] == i), change, low + (high - low) * u[:, i])
    return x
