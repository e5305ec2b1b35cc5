"""Rows of a stream as a CLIP model takes them: images of its size and scale, texts of its length."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError

# Of the pixels that CLIP was trained on (Radford et al. 2021); open_clip models carry their own where they differ.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ImageInput(nn.Module):
    """Images [B, 1 or 3, H, W], floats in [0, 1] or bytes, as [B, 3, height, width] of the model's scale.

    ``(resize(x) - mean) / std``; grey becomes three channels. Another size is resized by cubic interpolation to the
    whole of the model's, whatever its proportions, so that no part of the picture is lost.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: tuple[int, int], mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def of(cls, clip: nn.Module) -> ImageInput:
        """What the image tower of an open_clip model asks for."""
        tower: Any = clip.visual
        own = getattr(tower, "preprocess_cfg", None) or {}
        size = getattr(tower, "image_size", None) or own.get("size")
        if size is None:
            raise InputError(
                f"clip: expected an open_clip model whose visual tower says its image_size, got {type(tower).__name__}."
            )
        size = (size, size) if isinstance(size, int) else tuple(size)
        return cls(size, tuple(own.get("mean", MEAN)), tuple(own.get("std", STD)))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise InputError(f"image: expected [B, 3, H, W] or [B, 1, H, W], got {tuple(x.shape)}.")
        # Pictures are not resized in half precision, in which a model may be.
        wide = torch.promote_types(self.mean.dtype, torch.float32)
        x = x.to(wide) if x.is_floating_point() else x.to(wide) / 255
        if x.shape[-2:] != self.size and len(x):
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        elif x.shape[-2:] != self.size:
            x = x.new_zeros(0, x.shape[1], *self.size)
        return (x.expand(-1, 3, -1, -1) - self.mean) / self.std


def fit_tokens(ids: Tensor, length: int, end: int | None) -> Tensor:
    """Token ids [B, S] padded with 0 to [B, length]; a row without the mark ``end`` gets it after its last token.

    CLIP reads a text at its end mark, which CLIP's tokenizer sets and others do not. With end=None no mark is needed.
    Raises InputError for another dtype, and for texts that are longer than the model takes.
    """
    if ids.ndim != 2 or ids.is_floating_point():
        raise InputError(f"text: expected token ids [B, S], got {ids.dtype} of shape {tuple(ids.shape)}.")
    used = ids.shape[1]
    if used > length:
        raise InputError(f"text: expected at most {length} tokens, as this CLIP takes, got {used}; shorten the texts.")
    padded = F.pad(ids, (0, length - used))
    if end is None or not len(ids):
        return padded
    places = torch.arange(length, device=ids.device)
    after = ((padded != 0) * (places + 1)).amax(1, keepdim=True).clamp(max=length - 1)
    missing = ~(padded == end).any(1, keepdim=True)
    return torch.where(missing & (places == after), end, padded)
