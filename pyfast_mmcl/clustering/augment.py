"""Augmentation of images: policies that change every image of a batch by random numbers of its own, all at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.clustering.base import number_in, whole_number
from pyfast_mmcl.clustering.colors import apply_to, gray, jitter
from pyfast_mmcl.clustering.rand_augment import cutout, rand_augment
from pyfast_mmcl.clustering.warps import affine, crop_resize, gaussian_blur, random_boxes, rotation, slanted

# Kernels of blurring reach as far as a tenth of the image's side (SimCLR).
_BLUR_SHARE = 0.1
_BLUR_SIGMA = (0.1, 2.0)
_COLOR_CHANNELS = (1, 3)


class View(Protocol):
    """What a policy is to a method: images [B, C, H, W] in [0, 1] → as many of the same shape, changed at random."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor: ...


def _check_pair(name: str, pair: Any, most: float = float("inf")) -> None:
    if len(pair) != 2 or not 0 < number_in(pair[0], name) <= number_in(pair[1], name) <= most:
        raise InputError(f"{name} must be two numbers above 0 in ascending order, at most {most:g}, got {pair!r}.")


@dataclass(frozen=True)
class Policy:
    """A policy of augmentation, applied in the order of its fields; with the same generator it gives the same bits.

    crop            shares of the area that a crop keeps, stretched back; None: no crop
    ratio           width / height of crops
    flip            chance of mirroring left and right
    rotate          largest angle in degrees; black comes in at the corners
    shear           largest slant, in pixels to the side per pixel down; black comes in
    jitter          strengths for brightness, contrast, saturation and hue (the last two need colours); None: none
    jitter_chance   share of images that are jittered
    gray            chance of losing the colours
    blur            chance of a Gaussian blur with σ in [0.1, 2] pixels
    operations      number of RandAugment's operations with random strength per image
    cutout          side of a square hole as a share of the image's side, filled with the image's mean
    fine_grained    says that small differences matter; colour jitter or lost colours then give a UserWarning

    Defaults: SimCLR's without blur, which is for images from 96 pixels on (Chen et al., ICML 2020, appendix A).
    """

    crop: tuple[float, float] | None = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotate: float = 0.0
    shear: float = 0.0
    jitter: tuple[float, float, float, float] | None = (0.4, 0.4, 0.4, 0.1)
    jitter_chance: float = 0.8
    gray: float = 0.2
    blur: float = 0.0
    operations: int = 0
    cutout: float = 0.0
    fine_grained: bool = False

    def __post_init__(self) -> None:
        for name in ("flip", "jitter_chance", "gray", "blur", "cutout"):
            if number_in(getattr(self, name), name) > 1:
                raise InputError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}.")
        number_in(self.rotate, "rotate")
        number_in(self.shear, "shear")
        whole_number(self.operations, "operations", least=0)
        _check_pair("ratio", self.ratio)
        if self.crop is not None:
            _check_pair("crop", self.crop, most=1.0)
        strengths = () if self.jitter is None else self.jitter
        if len(strengths) not in (0, 4) or (strengths and number_in(strengths[3], "jitter") > 0.5):
            raise InputError(f"jitter must be four strengths, the last at most 0.5, or None, got {self.jitter!r}.")
        for strength in strengths:
            number_in(strength, "jitter")
        if self.fine_grained and (any(strengths) or self.gray > 0):
            warnings.warn(
                "colour jitter and lost colours hide what tells fine-grained clusters apart; set jitter=None, gray=0.",
                UserWarning,
                stacklevel=3,
            )

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A changed copy of images x [B, C, H, W] in [0, 1]."""
        # Places of pixels in bfloat16 would be off by parts of a pixel.
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            x = self._place(x, generator)
            if self.jitter is not None:
                x = jitter(x, self.jitter, self.jitter_chance, generator)
            if self.gray > 0 and x.shape[1] > 1:
                lost = torch.rand(len(x), generator=generator) < self.gray
                x = apply_to(x, lost, lambda some, _: gray(some).repeat(1, x.shape[1], 1, 1), lost)
            if self.blur > 0:
                x = self._blur(x, generator)
            if self.operations > 0:
                x = rand_augment(x, self.operations, generator)
            return cutout(x, self.cutout, generator) if self.cutout > 0 else x

    def _place(self, x: Tensor, generator: torch.Generator) -> Tensor:
        B, (H, W) = len(x), (x.shape[2], x.shape[3])
        if self.rotate > 0 or self.shear > 0:
            u = 2 * torch.rand(B, 2, generator=generator) - 1
            x = affine(x, slanted(rotation(self.rotate * u[:, 0]), self.shear * u[:, 1]))
        if self.crop is None and self.flip == 0:
            return x.clone()
        area = (1.0, 1.0) if self.crop is None else self.crop
        ratio = (W / H, W / H) if self.crop is None else self.ratio
        boxes = random_boxes(B, (H, W), area, ratio, generator)
        return crop_resize(x, boxes, torch.rand(B, generator=generator) < self.flip)

    def _blur(self, x: Tensor, generator: torch.Generator) -> Tensor:
        radius = max(1, round(_BLUR_SHARE * min(x.shape[2:]) / 2))
        u = torch.rand(len(x), 2, generator=generator)
        sigma = _BLUR_SIGMA[0] + (_BLUR_SIGMA[1] - _BLUR_SIGMA[0]) * u[:, 0]
        return apply_to(x, u[:, 1] < self.blur, lambda some, s: gaussian_blur(some, s, radius), sigma)


# Named policies. "digits": writing keeps its meaning when turned a little, not when mirrored (IIC's policy for MNIST,
# Ji et al., ICCV 2019); slants and proportions change too, by which clusters would else tell hands apart, not digits.
# "strong": SCAN's, four operations of RandAugment and a hole of half the side.
POLICIES: dict[str, Policy] = {
    "simclr": Policy(),
    "simclr_large": Policy(blur=0.5),
    "strong": Policy(crop=(0.5, 1.0), jitter=None, gray=0.0, operations=4, cutout=0.5),
    "digits": Policy(
        crop=(0.5, 1.0),
        ratio=(0.7, 1.4),
        flip=0.0,
        rotate=20.0,
        shear=0.4,
        jitter=(0.4, 0.4, 0.0, 0.0),
        gray=0.0,
    ),
    "fine_grained": Policy(jitter=None, gray=0.0, fine_grained=True),
    "geometry": Policy(jitter=None, gray=0.0),
    "none": Policy(crop=None, flip=0.0, jitter=None, gray=0.0),
}
_BLUR_FROM = 96  # pixels


@dataclass(frozen=True)
class Batched:
    """A function of a whole batch as a policy: ``function(x [B, C, H, W], generator)`` → the same shape."""

    function: Callable[[Tensor, torch.Generator], Tensor]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return _same_shape(self.function(x, generator), x)


@dataclass(frozen=True)
class PerImage:
    """A function of one image [C, H, W] as a policy, called once per image: a torchvision v2 transform, or one's own.

    Its random numbers must come from torch's generator, which is seeded for every step, for runs to repeat.
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            return torch.stack([_same_shape(self.function(image), image) for image in x]) if len(x) else x.clone()


def policy_for(augment: Any, shape: tuple[int, ...]) -> View:
    """The policy that ``augment`` means for images of ``shape`` (C, H, W).

    augment: a name in POLICIES; "auto", which is "digits" for one channel, SimCLR's policy for three, with blur from
    96 pixels on, and "geometry" for others; a Policy, Batched or PerImage; or a function of one image such as a
    torchvision v2 transform.

    Raises UnknownNameError for another name, InputError for what is no function, or for operations on colours of
    images that have neither one nor three channels.
    """
    if augment == "auto":
        large = min(shape[1:]) >= _BLUR_FROM
        in_color = "simclr_large" if large else "simclr"
        augment = {1: "digits", 3: in_color}.get(shape[0], "geometry")
    if isinstance(augment, str):
        if augment not in POLICIES:
            raise unknown_name("policy of augmentation", augment, [*POLICIES, "auto"])
        augment = POLICIES[augment]
    if isinstance(augment, Policy):
        colored = augment.jitter is not None or augment.gray > 0 or augment.operations > 0
        if colored and shape[0] not in _COLOR_CHANNELS:
            raise InputError(
                f"augment: changes of colour need images of 1 or 3 channels, got {shape[0]}; choose 'geometry', or "
                " a Policy with jitter=None, gray=0."
            )
        return augment
    if isinstance(augment, Batched | PerImage):
        return augment
    if callable(augment):
        return PerImage(augment)
    raise InputError(f"augment must be the name of a policy, a Policy or a function of one image, got {augment!r}.")


def _same_shape(out: Tensor, x: Tensor) -> Tensor:
    if not isinstance(out, Tensor) or out.shape != x.shape:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(f"augment: expected a tensor of shape {tuple(x.shape)} back, got {got}; resize at the end.")
    return out.to(x)


def two_views(policy: View, x: Tensor, generator: torch.Generator) -> Tensor:
    """Two changed copies of every image, [2B, C, H, W]: rows i and i + B show image i."""
    return policy(torch.cat([x, x]), generator)
