"""Real data sets with known classes, as what clustering estimators read: vectors, images and views of the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.datasets import load_digits

from benchmarks.methods.clusters_clip import embeddings
from benchmarks.methods.emoji import drawn
from pyfast_mmcl.clustering.views import join_views
from pyfast_mmcl.data.folder import read_arrays
from pyfast_mmcl.data.mnist import read_mnist

# The tiny CLIP has never been shown these fifths of the rows of a set (`tiny_clip_data`).
UNSEEN = (3, 4)


@dataclass(frozen=True)
class Data:
    """N rows with their classes.

    y        int64 [N]; K is how many classes there are
    vectors  float32 [N, D], mean 0, and variance 1 on average over the features: what every library is given
    images   bytes [N, C, H, W], or None
    views    list of tables [N, D_v], or None
    clip     unit embeddings [N, d] of the pictures by the tiny CLIP, or None
    """

    y: np.ndarray
    vectors: np.ndarray
    images: np.ndarray | None = None
    views: list[np.ndarray] | None = None
    clip: np.ndarray | None = None

    @property
    def K(self) -> int:
        return len(np.unique(self.y))

    def take(self, rows: np.ndarray) -> Data:
        """Some of the rows, as they are."""
        images = None if self.images is None else self.images[rows]
        views = None if self.views is None else [view[rows] for view in self.views]
        clip = None if self.clip is None else self.clip[rows]
        return Data(self.y[rows], self.vectors[rows], images, views, clip)

    @property
    def unit_range(self) -> np.ndarray:
        """The vectors shifted and divided into [0, 1]: pixels as shares of white."""
        low, high = self.vectors.min(), self.vectors.max()
        return (self.vectors - low) / (high - low) if self.images is None else _pixels(self.images)


def scaled(x: np.ndarray) -> np.ndarray:
    """Rows [N, …] flattened, shifted to mean 0 and divided by one number so that their variance is 1 on average."""
    x = x.reshape(len(x), -1).astype(np.float64)
    x -= x.mean(0)
    return (x / np.sqrt(x.var(0).mean())).astype(np.float32)


def digits() -> Data:
    """scikit-learn's 1,797 digits of 8 × 8 pixels."""
    x, y = load_digits(return_X_y=True)
    images = np.round(x.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Data(y.astype(np.int64), scaled(x), images)


def mnist() -> Data:
    """The 10,000 test digits of MNIST."""
    images, y = (part.numpy() for part in read_mnist())
    return Data(y, scaled(images), images[:, None])


def har() -> Data:
    """2,380 windows of four phone and watch sensors, of 5 activities: every channel with variance 1, flattened."""
    found = read_arrays("har.npz")
    x = found["X"].astype(np.float32)
    x = (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)
    return Data(found["y"].astype(np.int64), scaled(x))


def omniglot() -> Data:
    """20 drawings of each of 136 characters, 35 × 35 pixels."""
    found = read_arrays("omniglot.npz")
    images = found["image"][:, None]
    return Data(found["y"].astype(np.int64), scaled(images), images)


def pictures(file: str) -> Data:
    """Colour pictures of 32 × 32: the two fifths of the rows that the tiny CLIP has never been shown."""
    found = read_arrays(file)
    rows = np.isin(np.arange(len(found["y"])) % 5, UNSEEN)
    images = np.ascontiguousarray(found["x"][rows].transpose(0, 3, 1, 2))
    return Data(found["y"][rows].astype(np.int64), scaled(images), images, clip=embeddings(images))


def emoji() -> Data:
    """Emoji in three styles, by group: those that the tiny CLIP has never been shown, at half their size (24 × 24)."""
    found = read_arrays("emoji.npz")
    valid = drawn(found["x"]) & np.isin(np.arange(found["x"].shape[1]) % 5, UNSEEN)
    style, row = np.nonzero(valid)
    full = np.ascontiguousarray(found["x"][style, row].transpose(0, 3, 1, 2))
    halved = np.round(full.reshape(-1, 3, 24, 2, 24, 2).mean((3, 5))).astype(np.uint8)
    return Data(found["group"][row].astype(np.int64), scaled(halved), halved, clip=embeddings(full))


def multiview(name: str, *, text: bool = False) -> Data:
    """A set of several views. Rows of text views are divided by their norms; the vectors are all views, joined."""
    found = read_arrays(f"multiview_{name}.npz")
    views = [_view(found, v) for v in range(len(found)) if any(key.split("_")[0] == f"v{v}" for key in found)]
    if text:
        views = [view / np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-12) for view in views]
    return Data(found["y"].astype(np.int64), scaled(join_views(views)[0]), views=views)


def _view(found: dict[str, np.ndarray], v: int) -> np.ndarray:
    if f"v{v}" in found:
        return found[f"v{v}"].astype(np.float32)
    parts = tuple(found[f"v{v}_{part}"] for part in ("data", "indices", "indptr"))
    return csr_array(parts, shape=tuple(found[f"v{v}_shape"])).toarray().astype(np.float32)


def _pixels(images: np.ndarray) -> np.ndarray:
    return (images.reshape(len(images), -1) / np.float32(255)).astype(np.float32)


SOURCES: dict[str, Callable[[], Any]] = {
    "digits": digits,
    "mnist": mnist,
    "har": har,
    "omniglot": omniglot,
    "cifar10": partial(pictures, "cifar10_10k.npz"),
    "pacs": partial(pictures, "pacs.npz"),
    "emoji": emoji,
    "handwritten": partial(multiview, "handwritten"),
    "scene15": partial(multiview, "scene15"),
    "landuse21": partial(multiview, "landuse21"),
    "msrcv1": partial(multiview, "msrcv1"),
    "bbcsport": partial(multiview, "bbcsport", text=True),
    "3sources": partial(multiview, "3sources", text=True),
}


@cache
def read(name: str) -> Data:
    """The data set of that name."""
    return SOURCES[name]()
