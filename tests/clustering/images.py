"""The battery's rows as images, for estimators that take images."""

import numpy as np
import torch
from torch import nn

from pyfast_mmcl.clustering.augment import Batched


def shaded(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images a little darker."""
    return x * (1 - 0.1 * torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device))


# A change that leaves alone where things are: in these images places are the features.
SHADES = Batched(shaded)

_CELL = 2  # pixels of a side


def as_images(X: np.ndarray) -> np.ndarray:
    """Rows [N, D] as images [N, 1, S, S] of their kind of floats: feature d is the brightness of the d-th square cell.

    Brightness is ``1 / (1 + exp(−x / 4))``: rows keep their order in every feature, however large they are, and equal
    rows give equal images. Cells beyond D are grey.
    """
    X = np.asarray(X)
    N, D = X.shape
    side = int(np.ceil(np.sqrt(D)))
    cells = np.full((N, side * side), 0.5)
    cells[:, :D] = 0.5 * (1 + np.tanh(X.astype(np.float64) / 8))
    grid = cells.reshape(N, 1, side, side).repeat(_CELL, axis=2).repeat(_CELL, axis=3)
    return grid.astype(X.dtype if X.dtype.kind == "f" else np.float32)


def bad_images() -> list[tuple]:
    """(what is no set of images, a word of the sentence that says so)."""
    good = np.full((20, 1, 8, 8), 0.5, dtype=np.float32)
    nan, inf = good.copy(), good.copy()
    nan[7, 0, 2, 3], inf[7, 0, 2, 3] = np.nan, np.inf
    return [
        (nan, "row 7"),
        (torch.from_numpy(inf), "row 7"),
        (good[:, 0], "channel"),
        (good.reshape(20, -1), "choose another estimator"),
        (good[:0], "empty"),
        (good[:, :, :0], "empty"),
        (good.astype(complex), "complex"),
        (torch.from_numpy(good).to(torch.complex64), "complex"),
        (good.astype(str), "numbers"),
        (good.tolist(), "images"),
        (torch.from_numpy(good).to_sparse(), "to_dense"),
        (255 * good, "255"),
        ((255 * good).astype(np.int32), "uint8"),
        (good - 1, "-0.5"),
    ]


def tiny_encoder(channels: int) -> nn.Module:
    """One number per cell of the image, then 16 features; grids of any size are pooled to 3 × 3."""
    return nn.Sequential(
        nn.AvgPool2d(_CELL),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(9 * channels, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
    )
