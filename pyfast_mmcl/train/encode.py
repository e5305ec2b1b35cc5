"""Pictures as the unit embeddings of a CLIP, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.train.isolate import choose_device, isolated
from pyfast_mmcl.train.progress import ProgressBar

_BATCH = 64


@torch.no_grad()
def encode_images(
    model: ClipModel,
    read: Callable[[Sequence[int]], Tensor],
    N: int,
    *,
    device: torch.device | str | None = None,
    threads: int | None = 1,
    progress: bool = False,
) -> Tensor:
    """Unit embeddings [N, D] float32 on the CPU of images that ``read(row numbers)`` gives as [b, 1 or 3, H, W].

    ``embeddings[n] = model.image_features(read([n]))[0]``, in evaluation mode; images are read as they are needed.

    device, threads: as in ``clustering.deep.Training``. Raises InputError as ``read`` and the model do.
    """
    place = choose_device(device)
    parts = []
    with isolated(place, threads), ProgressBar(-(-N // _BATCH), enabled=progress) as bar:
        model.to(place).eval()
        bar.describe("encoding")
        for start in range(0, N, _BATCH):
            images = read(range(start, min(start + _BATCH, N))).to(place)
            parts.append(model.image_features(images).float().cpu())
            bar.advance(dict)
    return torch.cat(parts)
