"""Geometry of augmentation: every image of a batch [B, C, H, W] cropped, turned or blurred by numbers of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

# How often a box is drawn before the middle of the image is taken, as in torchvision's RandomResizedCrop.
_TRIES = 10


def random_boxes(
    n: int, size: tuple[int, int], area: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Boxes (top, left, height, width) int64 [n, 4] on the CPU that cover a share of ``area`` of images of ``size``.

    Share uniform, width / height log-uniform in ``ratio``, place uniform: the law of torchvision's RandomResizedCrop
    (Szegedy et al. 2015).
    """
    H, W = size
    u = torch.rand(n, _TRIES, 2, generator=generator, dtype=torch.float64)
    share = H * W * (area[0] + (area[1] - area[0]) * u[..., 0])
    log_ratio = math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * u[..., 1]
    width, height = (share * log_ratio.exp()).sqrt().round(), (share / log_ratio.exp()).sqrt().round()
    fits = (width >= 1) & (width <= W) & (height >= 1) & (height <= H)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    found = fits.any(1)
    middle = min(max(W / H, ratio[0]), ratio[1])
    h = torch.where(found, height.gather(1, first)[:, 0], min(H, round(W / middle)))
    w = torch.where(found, width.gather(1, first)[:, 0], min(W, round(H * middle)))
    v = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    top = torch.where(found, (v[:, 0] * (H - h + 1)).floor(), ((H - h) / 2).round())
    left = torch.where(found, (v[:, 1] * (W - w + 1)).floor(), ((W - w) / 2).round())
    return torch.stack([top, left, h, w], 1).long()


def crop_resize(x: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Box i of image i, stretched back to [C, H, W] bilinearly, and mirrored where ``flipped`` [B].

    ``out[b, c] = R[b] @ x[b, c] @ S[b].T``: interpolation works on rows and on columns apart, so two products do it,
    and a mirrored image costs nothing. boxes int64 [B, 4] as in ``random_boxes``.
    """
    H, W = x.shape[2:]
    boxes = boxes.to(x.device)
    rows = _interpolation(boxes[:, 0], boxes[:, 2], H, x.dtype)
    columns = _interpolation(boxes[:, 1], boxes[:, 3], W, x.dtype)
    columns = torch.where(flipped.to(x.device)[:, None, None], columns.flip(1), columns)
    return separable(x, rows, columns)


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows[b] @ x[b, c] @ columns[b].T``: x [B, C, H, W], rows [B, H', H], columns [B, W', W]."""
    B, C, H, W = x.shape
    # One product per image rather than per channel: the channels stand below one another.
    across = torch.bmm(x.reshape(B, C * H, W), columns.mT).reshape(B, C, H, columns.shape[1])
    return rows[:, None] @ across


def _interpolation(start: Tensor, length: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Weights [B, size, size] of bilinear stretching of pixels start … start + length − 1 to all ``size`` pixels."""
    place = torch.arange(size, device=start.device, dtype=dtype)
    at = (place + 0.5) * (length.to(dtype) / size)[:, None] - 0.5
    # Beyond the middle of the outermost pixels of the box their own values hold, not those outside it.
    at = start.to(dtype)[:, None] + torch.minimum(at.clamp_min(0), (length - 1).to(dtype)[:, None])
    return (1 - (at[:, :, None] - place).abs()).clamp_min(0)


def affine(x: Tensor, matrix: Tensor) -> Tensor:
    """Image i seen through ``matrix[i]`` [B, 2, 3], bilinear, black outside.

    Output point p (x, y; pixels, from the middle of the image) shows input point ``matrix[i] @ [p, 1]``.
    """
    if len(x) == 0:
        return x.clone()
    H, W = x.shape[2:]
    size = torch.tensor([W, H], dtype=x.dtype, device=x.device)
    matrix = matrix.to(x)
    # torch measures in halves of the image's sides.
    theta = torch.cat([matrix[:, :, :2] * size / size[:, None], matrix[:, :, 2:] * 2 / size[:, None]], 2)
    grid = affine_grid(theta, list(x.shape), align_corners=False)
    return grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def rotation(degrees: Tensor) -> Tensor:
    """The matrices [B, 2, 3] for ``affine`` that turn images by ``degrees`` [B], counter-clockwise."""
    angle = torch.deg2rad(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)


def slanted(matrix: Tensor, shear: Tensor) -> Tensor:
    """``matrix`` [B, 2, 3] and then a slant: the row at y shows the row of the input moved by ``shear`` [B] · y."""
    slant = torch.eye(2, dtype=matrix.dtype, device=matrix.device).repeat(len(shear), 1, 1)
    slant[:, 0, 1] = shear
    return slant @ matrix


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Image i blurred by a Gaussian of ``sigma[i]`` pixels cut off at ``radius``; edges are mirrored."""
    H, W = x.shape[2:]
    return separable(x, _gaussian(sigma.to(x), radius, H), _gaussian(sigma.to(x), radius, W))


def _gaussian(sigma: Tensor, radius: int, size: int) -> Tensor:
    """Weights [B, size, size] of blurring a line of pixels that goes on mirrored, its last pixel not repeated."""
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = (-0.5 * (offset / sigma[:, None]).square()).exp()
    kernel = kernel / kernel.sum(1, keepdim=True)
    period = max(1, 2 * (size - 1))
    source = (torch.arange(size, device=sigma.device)[:, None] + offset) % period
    source = torch.where(source < size, source, period - source)
    weights = sigma.new_zeros(len(sigma), size, size)
    # One offset at a time: two offsets may meet in one pixel, and sums in no fixed order would not repeat.
    at = torch.arange(size, device=sigma.device)
    for i in range(len(offset)):
        weights[:, at, source[:, i]] += kernel[:, i : i + 1]
    return weights
