"""RandAugment with strengths of their own for every image, and cutout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from pyfast_mmcl.clustering.colors import apply_to, blend, brightness, contrast, saturation
from pyfast_mmcl.clustering.warps import affine, rotation

# Largest strengths of RandAugment (Cubuk et al. 2020): shear, share of the side moved, degrees, factor of blending.
_SHEAR, _MOVE, _DEGREES, _FACTOR = 0.3, 0.3, 30.0, 0.9
_BINS = 256
# Pillow's smoothing kernel, which sharpness blends with.
_SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))


def rand_augment(x: Tensor, operations: int, generator: torch.Generator) -> Tensor:
    """``operations`` random changes of every image in turn, each of a random strength; x [B, C, H, W] is used up.

    The fourteen operations of RandAugment, chosen uniformly; the strength m is uniform in [−1, 1] and scales the
    largest one, as SCAN draws it (the paper holds it fixed and draws its sign).

    Reference: Cubuk et al., *RandAugment*, NeurIPS 2020, figure 2; Van Gansbeke et al., ECCV 2020, for the strengths.
    """
    names = list(OPERATIONS)
    for _ in range(operations):
        which = torch.randint(len(names), (len(x),), generator=generator)
        m = 2 * torch.rand(len(x), generator=generator) - 1
        x = _warped(x, which, m, names)
        for i, name in enumerate(names):
            change = OPERATIONS[name]
            if change is not None:
                x = apply_to(x, which == i, change, m)
    return x


def cutout(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A square hole with sides of ``share`` of the image's, its middle anywhere, filled with the mean of the image.

    Reference: DeVries and Taylor, *Improved regularization of convolutional neural networks with cutout*, 2017.
    """
    B, _, H, W = x.shape
    u = torch.rand(B, 2, generator=generator)
    hole = torch.ones(B, 1, H, W, dtype=torch.bool)
    for axis, size in ((2, H), (3, W)):
        side = round(share * size)
        start = (u[:, axis - 2] * size).floor() - side // 2
        distance = torch.arange(size) - start[:, None]
        inside = (distance >= 0) & (distance < side)
        hole &= inside[:, None, :, None] if axis == 2 else inside[:, None, None, :]
    return torch.where(hole.to(x.device), x.mean((2, 3), keepdim=True), x)


def sharpness(x: Tensor, m: Tensor) -> Tensor:
    """Blended with a smoothed copy; the outermost pixels stay."""
    C = x.shape[1]
    kernel = torch.tensor(_SMOOTH, dtype=x.dtype, device=x.device) / 13
    smooth = x.clone()
    if min(x.shape[2:]) > 2:
        smooth[:, :, 1:-1, 1:-1] = conv2d(x, kernel.expand(C, 1, 3, 3), groups=C)
    return blend(x, smooth, 1 + _FACTOR * m)


def posterize(x: Tensor, m: Tensor) -> Tensor:
    """The 8 to 4 highest bits of every byte."""
    step = (2.0 ** (4 * m.abs()).round()).to(x)[:, None, None, None]
    return ((x * 255).round() / step).floor() * step / 255


def solarize(x: Tensor, m: Tensor) -> Tensor:
    """Pixels from a threshold of 1 − |m| on are inverted."""
    return torch.where(x >= (1 - m.abs()).to(x)[:, None, None, None], 1 - x, x)


def autocontrast(x: Tensor, m: Tensor) -> Tensor:
    """Every channel stretched to [0, 1]; a flat one stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(torch.finfo(x.dtype).tiny), x)


def equalize(x: Tensor, m: Tensor) -> Tensor:
    """Every channel with a histogram as flat as bytes allow; a flat channel stays (Pillow's rule)."""
    flat = (x * 255).round().long().flatten(2).flatten(0, 1)  # [BC, HW]
    counts = torch.zeros(len(flat), _BINS, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    last = counts.gather(1, flat.amax(1, keepdim=True))
    step = (flat.shape[1] - last) // (_BINS - 1)
    table = ((counts.cumsum(1) - counts + step // 2) // step.clamp_min(1)).clamp(max=_BINS - 1)
    return torch.where(step > 0, table.gather(1, flat), flat).view(x.shape).to(x.dtype) / 255


Operation = Callable[[Tensor, Tensor], Tensor]
# None: a warp; those of one turn are done together.
OPERATIONS: dict[str, Operation | None] = {
    "identity": lambda x, m: x,
    "shear_x": None,
    "shear_y": None,
    "translate_x": None,
    "translate_y": None,
    "rotate": None,
    "brightness": lambda x, m: brightness(x, 1 + _FACTOR * m),
    "color": lambda x, m: saturation(x, 1 + _FACTOR * m),
    "contrast": lambda x, m: contrast(x, 1 + _FACTOR * m),
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}


def _warped(x: Tensor, which: Tensor, m: Tensor, names: list[str]) -> Tensor:
    H, W = x.shape[2:]
    matrix = rotation(torch.where(which == names.index("rotate"), _DEGREES * m, 0.0))
    for name, row, column, most in (
        ("shear_x", 0, 1, _SHEAR),
        ("shear_y", 1, 0, _SHEAR),
        ("translate_x", 0, 2, _MOVE * W),
        ("translate_y", 1, 2, _MOVE * H),
    ):
        matrix[:, row, column] += torch.where(which == names.index(name), most * m, 0.0)
    warps = torch.tensor([OPERATIONS[name] is None for name in names])
    chosen = warps[which].nonzero().flatten()
    if len(chosen):
        at = chosen.to(x.device)
        x = x.index_copy(0, at, affine(x.index_select(0, at), matrix[chosen]))
    return x
