"""Pictures as the package keeps and gives them: bytes in memory, floats in [0, 1] in a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def pixels(images: Tensor) -> Tensor:
    """uint8 [B, …] → float32 [B, …] in [0, 1]: a quarter of the memory until a batch is made."""
    return images.to(torch.float32) / 255


def rgb(images: np.ndarray | Tensor, size: int | None = None) -> Tensor:
    """Grey [N, H, W] or coloured [N, H, W, 3] bytes → uint8 [N, 3, size, size]; size None keeps H × W."""
    x = torch.as_tensor(images)
    x = x.unsqueeze(1).expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return x.contiguous() if size is None else resized(x, size)


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 [N, c, H, W] → uint8 [N, c, size, size], bilinear and smoothed before it shrinks."""
    if images.shape[2:] == (size, size):
        return images.contiguous()
    # In pieces: the floats of a whole set would need four times its memory.
    parts = [
        interpolate(part.to(torch.float32), (size, size), mode="bilinear", antialias=True, align_corners=False)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for part in images.split(1024)
    ]
    return torch.cat(parts) if parts else images.new_zeros((0, images.shape[1], size, size))
