"""`Samples`: what deep estimators train on. Vectors, images, sparse rows or views, read by row number."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.inputs import read_rows

_BLOCK_ROWS = 1024
IMAGE_DIMS = 4
_COLOURS = (1, 3, 4)  # channels of pictures: grey, colours, colours with opacity
_SLACK = 1e-3  # rounding, beyond the range of images


class Samples:
    """N rows of one view: vectors [N, D] (dense or CSR) or images [N, C, H, W].

    shape       of a row: (D,) or (C, H, W)
    is_image    images of bytes are read as floats in [0, 1]
    device      where ``take`` answers, in float32
    scaling     (shift [D], factor) in float64 on the CPU: ``take`` gives factor · (x − shift), worked out in float64;
                None gives x
    """

    def __init__(self, source: Any, device: torch.device, *, numpy: bool, home: torch.device) -> None:
        self._source, self._numpy, self._home = source, numpy, home
        self.device = device
        self.shape = tuple(source.shape[1:])
        self.is_image = len(self.shape) > 1
        self.scaling: tuple[Tensor, float] | None = None

    def __len__(self) -> int:
        return self._source.shape[0]

    def take(self, rows: Tensor) -> Tensor:
        """Rows [b, …] by number (int64 [b] on the CPU), float32 on ``device``."""
        picked = self._pick(rows).to(self.device)
        if self.scaling is None:
            return picked.to(torch.float32)
        shift, factor = self.scaling
        # In float64: what is left of rows far from the origin would be rounding. In place: ``picked`` is a copy.
        return picked.double().sub_(shift.to(self.device)).mul_(factor).to(torch.float32)

    def measure(self) -> tuple[Tensor, float]:
        """The scaling after which features have mean 0, and variance 1 on average over the features.

        One factor for all features, so that distances keep their proportions; 1 where all rows are equal.
        """
        total = square = torch.zeros(self.shape, dtype=torch.float64)
        first = self._pick(torch.zeros(1, dtype=torch.int64)).double()[0].cpu()
        for start in range(0, len(self), _BLOCK_ROWS):
            rows = torch.arange(start, min(start + _BLOCK_ROWS, len(self)))
            part = self._pick(rows).double().cpu() - first  # against cancellation
            total, square = total + part.sum(0), square + part.square().sum(0)
        mean = total / len(self)
        variance = float((square / len(self) - mean.square()).clamp_min(0).mean())
        return mean + first, variance**-0.5 if variance > 0 else 1.0

    def limits(self) -> tuple[Tensor, float]:
        """The scaling after which every number lies in [0, 1]; one shift and one factor for all features."""
        low, high = math.inf, -math.inf
        for start in range(0, len(self), _BLOCK_ROWS):
            part = self._pick(torch.arange(start, min(start + _BLOCK_ROWS, len(self))))
            low, high = min(low, float(part.min())), max(high, float(part.max()))
        return torch.full(self.shape, low, dtype=torch.float64), 1 / (high - low) if high > low else 1.0

    def fingerprint(self) -> str:
        """A hash of the shape and of all rows in float32, by which a checkpoint knows its rows again."""
        digest = hashlib.sha256(repr((len(self), self.shape)).encode())
        for start in range(0, len(self), _BLOCK_ROWS):
            rows = torch.arange(start, min(start + _BLOCK_ROWS, len(self)))
            digest.update(self._pick(rows).float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _pick(self, rows: Tensor) -> Tensor:
        if issparse(self._source):
            return torch.from_numpy(self._source[rows.numpy()].toarray())
        picked = self._source.index_select(0, rows.to(self._source.device))
        # Divided in float32, as every loader does: the result is the float nearest to the fraction.
        return picked.to(torch.float32) / 255 if picked.dtype == torch.uint8 and self.is_image else picked

    def blocks(self, size: int = _BLOCK_ROWS) -> Iterator[tuple[Tensor, Tensor]]:
        """(row numbers, rows) of everything, in order. The blocks are the same for every number of rows before them."""
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)))
            yield rows, self.take(rows)

    def give(self, result: Tensor) -> Any:
        """A result as the kind of the input: NumPy array, or tensor on the input's device."""
        return result.detach().cpu().numpy() if self._numpy else result.detach().to(self._home)


def read_samples(X: Any, device: torch.device, *, images: bool = False) -> Samples:
    """Check ``X`` and wrap it: as images [N, C, H, W], or as vectors [N, D], into which images are flattened.

    X: vectors [N, D] as NumPy array, memory map, torch tensor, nested list, data frame or SciPy sparse matrix; images
    [N, C, H, W] as NumPy array, memory map or torch tensor, bytes or floats in [0, 1].

    Raises InputError: complex, non-numeric, empty, non-finite, of other dimensions, or images in another range.
    """
    if issparse(X) and not images:
        return Samples(_sparse(X), device, numpy=True, home=torch.device("cpu"))
    shape = tuple(getattr(X, "shape", ()))
    if images and (len(shape) != IMAGE_DIMS or issparse(X)):
        raise _no_images(X, shape)
    if len(shape) != IMAGE_DIMS:
        rows = read_rows(X)
        return Samples(rows.source, device, numpy=rows.from_numpy, home=rows.device)
    if 0 in X.shape:
        raise InputError(f"X is empty (shape={tuple(X.shape)}); pass images [rows, channels, height, width].")
    table = _as_images(X)
    _check_finite(table)
    if images:
        _check_channels(shape)
        _check_range(table)
    table = table if images else table.flatten(1)
    return Samples(table, device, numpy=not isinstance(X, Tensor), home=table.device)


def _no_images(X: Any, shape: tuple[int, ...]) -> InputError:
    if isinstance(X, list | tuple):
        got, remedy = f"a {type(X).__name__}", "stack images of one size with np.stack(X)"
    elif len(shape) == IMAGE_DIMS - 1:
        got, remedy = str(shape), "give a channel axis with X[:, None]"
    else:
        got, remedy = "a sparse matrix" if issparse(X) else str(shape), "choose another estimator for vectors"
    return InputError(f"X must be images [rows, channels, height, width], got {got}; {remedy}.")


def _check_channels(shape: tuple[int, ...]) -> None:
    """Refuse channels at the end: nothing would fail, and rows of pixels would be taken for channels."""
    _, C, H, W = shape
    colours = W in _COLOURS and (W > 1 or C == H)
    if colours and min(C, H) > max(_COLOURS):
        raise InputError(
            f"X must be images [rows, channels, height, width], got {shape}, whose channels seem to come last; move "
            "them with X.transpose(0, 3, 1, 2) (of a tensor, X.permute(0, 3, 1, 2))."
        )


def _sparse(X: Any) -> csr_array:
    rows = csr_array(X)
    if rows.dtype.kind not in "fiub":
        raise InputError(f"X must hold real numbers, got a sparse matrix of {rows.dtype}.")
    rows = rows.astype(np.float32)
    if 0 in rows.shape:
        raise InputError(f"X is empty (shape={rows.shape}); pass at least one row and one feature.")
    if not np.isfinite(rows.data).all():
        row = int(np.searchsorted(rows.indptr, np.flatnonzero(~np.isfinite(rows.data))[0], side="right")) - 1
        raise InputError(f"X must be finite, got NaN or inf in row {row}; drop or repair such rows.")
    return rows


def _as_images(X: Any) -> Tensor:
    if isinstance(X, Tensor):
        if X.layout != torch.strided or X.is_complex():
            raise InputError(
                f"X must hold real images, got a {X.layout} tensor of {X.dtype}; pass X.to_dense() or X.real."
            )
        return X.detach()
    array = np.asarray(X) if not isinstance(X, np.ndarray) else X
    if array.dtype.kind == "c":
        raise InputError("X must hold real images, got complex ones; pass X.real.")
    if array.dtype.kind not in "fiub":
        raise InputError(f"X must hold numbers, got images of {array.dtype}.")
    if array.dtype not in (np.uint8, np.float16, np.float32, np.float64):
        array = array.astype(np.float32)
    with warnings.catch_warnings():
        # A read-only array is only read here, which torch cannot know.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.ascontiguousarray(array) if any(s < 0 for s in array.strides) else array)


def _check_finite(images: Tensor) -> None:
    if not images.is_floating_point():
        return
    for start in range(0, len(images), _BLOCK_ROWS):
        bad = ~torch.isfinite(images[start : start + _BLOCK_ROWS].flatten(1)).all(1)
        if bool(bad.any()):
            row = start + int(bad.nonzero()[0])
            raise InputError(f"X must be finite, got NaN or inf in row {row}; drop or repair such rows.")


def _check_range(images: Tensor) -> None:
    """Bytes, or numbers in [0, 1]: augmentation and the networks behind it rely on it."""
    if images.dtype == torch.uint8:
        return
    for start in range(0, len(images), _BLOCK_ROWS):
        low, high = (float(value) for value in torch.aminmax(images[start : start + _BLOCK_ROWS]))
        if low < -_SLACK or high > 1 + _SLACK:
            raise InputError(
                f"X must be images of bytes (uint8) or of numbers in [0, 1], got {images.dtype} with values from "
                f"{low:.6g} to {high:.6g}; divide by 255, or rescale."
            )
