"""Emoji as image-text pairs: one name and some keywords, drawn in three styles; part of them held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

WHITE = 255
SHIFT = 4  # pixels that training images move at most, filled with white
TAG_SHARE = 0.5  # share of training captions that name one or two keywords behind the name


@dataclass(frozen=True)
class Emoji:
    """V styles of N emoji.

    images: uint8 [V, N, H, W, 3]; valid: bool [V, N], False where a picture is blank or repeats another style's.
    train, test: which emoji, by index. Both keep a few pictures that two emoji share (flags of the same design).
    """

    images: np.ndarray
    valid: np.ndarray
    styles: tuple[str, ...]
    names: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    train: np.ndarray
    test: np.ndarray


def read(folder: Path, *, held_out: int = 200, split_seed: int = 0) -> Emoji:
    """The set in ``folder``/emoji.npz with ``held_out`` emoji for the test, drawn once by ``split_seed``."""
    with np.load(folder / "emoji.npz") as file:
        images, styles = file["x"], tuple(map(str, file["styles"]))
        names, tags = map(str, file["text"]), (tuple(filter(None, str(t).split("|"))) for t in file["tags"])
        order = np.random.default_rng(split_seed).permutation(images.shape[1])
        train, test = np.sort(order[held_out:]), np.sort(order[:held_out])
        return Emoji(images, drawn(images), styles, tuple(names), tuple(tags), train, test)


def drawn(images: np.ndarray) -> np.ndarray:
    """Which pictures [V, N] are neither blank nor the same pixels as that emoji in an earlier style."""
    flat = images.reshape(*images.shape[:2], -1)
    valid = flat.min(2) != flat.max(2)
    for style in range(1, len(flat)):
        valid[style] &= ~(flat[:style] == flat[style]).all(2).any(0)
    return valid


def batches(emoji: Emoji, size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, list[str]]]:
    """``steps`` batches of ``size`` different training emoji: images [B, 3, H, W] in a random style, and captions."""
    per_epoch = len(emoji.train) // size
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(emoji.train)
        random = np.random.default_rng([seed, epoch, place])
        rows = order[place * size : (place + 1) * size]
        style = (emoji.valid[:, rows] * random.random((len(emoji.styles), size))).argmax(0)
        yield pixels(shifted(emoji.images[style, rows], random)), [caption(emoji, row, random) for row in rows]


def held_out(emoji: Emoji) -> tuple[Tensor, list[str], np.ndarray, np.ndarray]:
    """Test images of all styles [N, 3, H, W], test names [M], and the emoji that each image and each name shows."""
    style, place = np.nonzero(emoji.valid[:, emoji.test])
    rows = emoji.test[place]
    return pixels(emoji.images[style, rows]), [emoji.names[row] for row in emoji.test], rows, emoji.test


def caption(emoji: Emoji, row: int, random: np.random.Generator) -> str:
    """The name, in half of the cases followed by one or two of its keywords."""
    tags = emoji.tags[row]
    if not tags or random.random() >= TAG_SHARE:
        return emoji.names[row]
    some = random.permutation(tags)[: random.integers(1, 3)]
    return ", ".join([emoji.names[row], *some])


def shifted(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every image moved by up to SHIFT pixels each way: [B, H, W, 3] → the same."""
    B, H, W, _ = images.shape
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), constant_values=WHITE)
    corners = random.integers(0, 2 * SHIFT + 1, (B, 2))
    return np.stack([image[y : y + H, x : x + W] for image, (y, x) in zip(padded, corners, strict=True)])


def pixels(images: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] → float32 [B, 3, H, W] in [−1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
