"""`Rows`: one view of NumPy arrays, torch tensors on any device and memory maps, read block by block as torch tensors.

Precision. float32, float16 and bfloat16 rows are used as they are. float64 and integer rows are computed in float32,
the precision of the fast kernels, where rounding moves them by less than 1e-5 of their own spread; otherwise (large
offsets, magnitudes whose squares leave float32) everything is computed in float64. Results come back as float64 for
float64 input either way.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.knn.runs import KMeansRuns

_BLOCK_BYTES = 64 * 2**20  # of one converted block of a memory map
CACHE_BYTES = 2**19  # of one block in passes made of several elementwise operations, so that it stays in cache
_ROUNDING = 1e-5  # largest root-mean-square rounding error, relative to the spread, that float32 may cause
_SQUARES_FIT = (1e-15, 1e15)  # magnitudes whose squared differences neither vanish nor overflow in float32
# torch computes little with these; the wider types hold every value of theirs.
_WIDER = {np.dtype("u2"): np.int32, np.dtype("u4"): np.int64, np.dtype("u8"): np.float64, np.dtype("b1"): np.uint8}
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_COMPLEX = "Complex data not supported; pass real and imaginary parts as separate features."
_LARGEST = 1e140  # beyond it even float64 squares overflow once they are summed


class Rows:
    """A table [N, D] of finite numbers.

    Attributes:
        shape: (N, D).
        dtype: torch dtype in which blocks are read.
        center_dtype: float64 where ``dtype`` is, else float32.
        device: where blocks live.
        result_dtype: floating dtype of results: float64 for float64 input, else ``center_dtype``.
    """

    def __init__(
        self,
        source: Tensor,  # [N, D]
        dtype: torch.dtype,
        *,
        numpy: bool = False,
        mapped: bool = False,
        unit: bool = False,
        result_dtype: torch.dtype | None = None,
    ) -> None:
        self.shape = tuple(source.shape)
        self.device = source.device
        self.dtype = dtype
        self.center_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.result_dtype = result_dtype or (torch.float64 if source.dtype == torch.float64 else self.center_dtype)
        self._numpy, self._mapped, self._unit = numpy, mapped, unit
        # What fits in memory is converted once; a memory map is converted block by block in every pass.
        self._source = source if mapped else self._convert(source)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def total(self) -> int:
        """Rows of the whole table: N, unless several processes share it."""
        return len(self)

    def everyones(self, own: np.ndarray) -> np.ndarray:
        """Numbers of all rows of the table from those of one's own rows [N]."""
        return own

    def same(self, a: Tensor, b: Tensor) -> bool:
        """Whether labels are equal, in all processes that share the table."""
        return torch.equal(a, b)

    @property
    def source(self) -> Tensor:
        """The table as it is kept: in ``dtype``, or in its own while it lies in a memory map."""
        return self._source

    @property
    def from_numpy(self) -> bool:
        """Whether results go back as NumPy arrays."""
        return self._numpy

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """(slice of rows, tensor [n, D]) in order; one block unless a memory map has to be converted."""
        if not self._mapped or (self._source.dtype == self.dtype and not self._unit):
            yield slice(0, len(self)), self._source
            return
        for rows in slices(self.shape, _BLOCK_BYTES):
            yield rows, self._convert(self._source[rows])

    def take(self, index: np.ndarray) -> Tensor:
        """Rows [n, D] at ``index`` [n] in ``center_dtype``."""
        picked = self._source.index_select(0, torch.from_numpy(np.asarray(index, dtype=np.int64)).to(self.device))
        return (self._convert(picked) if self._mapped else picked).to(self.center_dtype)

    def unit(self) -> Rows:
        """The same rows divided by their norms; zero rows stay zero. A copy, except of a memory map."""
        return Rows(
            self._source,
            self.center_dtype,
            numpy=self._numpy,
            mapped=self._mapped,
            unit=True,
            result_dtype=self.result_dtype,
        )

    @cached_property
    def nonzero(self) -> np.ndarray:
        """bool [N]: rows that have a direction."""
        flags = np.zeros(len(self), dtype=bool)
        for rows, block in self.blocks():
            flags[rows] = (block != 0).any(dim=1).cpu().numpy()
        return flags

    @cached_property
    def runs(self) -> KMeansRuns | None:
        """Compiled k-means over these rows; None for kinds that it does not take, and where they are several blocks."""
        (_, first), *rest = itertools.islice(self.blocks(), 2)
        return None if rest or not KMeansRuns.usable(first) else KMeansRuns(first)

    def variance(self) -> float:
        """Mean over features of the variance over rows, in float64."""
        if self.runs is not None and self.runs.centred:
            return self.runs.variance()
        return _variance(block for _, block in self.blocks()) if len(self) else 0.0

    def give(self, result: Tensor) -> Any:
        """A result as the kind of the input: NumPy array, or tensor on the input's device."""
        return result.cpu().numpy() if self._numpy else result.to(self.device)

    def _convert(self, part: Tensor) -> Tensor:
        if not self._unit:
            return part.to(self.dtype)
        out = torch.empty(part.shape, dtype=self.dtype, device=part.device)
        for rows in slices(part.shape, CACHE_BYTES):
            out[rows] = unit_rows(part[rows].to(self.dtype).double())
        return out


def read_rows(X: Any, *, dtype: torch.dtype | None = None) -> Rows:
    """Check ``X`` and wrap it as :class:`Rows`.

    Args:
        X: [N, D] numbers: NumPy array, memory map, torch tensor, nested list or data frame.
        dtype: torch.float32 or torch.float64 to keep the precision of a fitted model; None chooses (see above).

    Raises:
        InputError: sparse, complex, non-numeric, not two-dimensional, empty, non-finite or beyond 1e140.
    """
    source, numpy, mapped = _as_tensor(X)
    _check_shape(tuple(source.shape))
    largest = _largest(source)
    if dtype is None:
        dtype = _choose_dtype(source, largest)
    elif dtype == torch.float32 and largest > torch.finfo(torch.float32).max:
        raise InputError(
            f"X holds the value {largest:.3g}, too large for the float32 in which this model was fitted; rescale X or "
            "fit on rows of that size."
        )
    elif dtype == torch.float32 and source.dtype in (torch.float16, torch.bfloat16):
        dtype = source.dtype
    return Rows(source, dtype, numpy=numpy, mapped=mapped)


def slices(shape: Sequence[int], limit: int) -> Iterator[slice]:
    """Consecutive slices of rows of a table [N, D] whose float64 copies stay within ``limit`` bytes."""
    step = max(1, limit // (8 * max(1, shape[1])))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def unit_rows(x: Tensor) -> Tensor:
    """Rows of ``x`` [n, D] float64 divided by their norms; zero rows stay zero."""
    tiny = torch.finfo(torch.float64).tiny
    # Scaling by the largest entry first keeps the squares of huge and tiny rows within range.
    x = x / x.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    return x / x.norm(dim=1, keepdim=True).clamp_min(tiny)


def _as_tensor(X: Any) -> tuple[Tensor, bool, bool]:
    """(tensor sharing memory with X where it can, X is not a tensor, X is a memory map)."""
    if isinstance(X, Tensor):
        return _dense_tensor(X), False, False
    if issparse(X):
        raise InputError("X is a sparse matrix, which this estimator does not take; pass a dense array: X.toarray().")
    array = X if isinstance(X, np.ndarray) else _as_array(X)
    if array.dtype.kind == "c":
        raise InputError(_COMPLEX)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        array = _numbers(array)
    native = array.dtype.newbyteorder("=")
    wanted = _WIDER.get(native, native)
    # torch reads only native numbers at positive whole strides.
    if array.dtype != wanted or any(s < 0 or s % array.itemsize for s in array.strides):
        array = np.ascontiguousarray(array, dtype=wanted)
    with warnings.catch_warnings():
        # A read-only array is only read here, which torch cannot know.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(array), True, isinstance(array, np.memmap)


def _dense_tensor(X: Tensor) -> Tensor:
    if X.layout != torch.strided:
        raise InputError(f"X is a sparse tensor ({X.layout}); pass X.to_dense().")
    if X.is_complex():
        raise InputError(_COMPLEX)
    if X.dtype == torch.bool:
        return X.to(torch.uint8)
    if X.is_floating_point() and X.dtype not in _FLOATS:
        raise InputError(f"X is a tensor of {X.dtype}; convert it with X.float().")
    return X.detach()


def _as_array(X: Any) -> np.ndarray:
    try:
        return np.asarray(X)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"X cannot be read as a table of numbers ({error}); pass an array [rows, features]."
        ) from error


def _numbers(array: np.ndarray) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"X must hold numbers, got dtype {array.dtype} ({error}); encode other values first."
        ) from error


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        images = "; methods that learn from images take X[:, None]" if len(shape) == 3 else ""
        raise InputError(
            f"X must be two-dimensional [rows, features], got shape {shape}. Reshape your data: X.reshape(-1, 1) for a "
            f"single feature, X.reshape(1, -1) for a single row, X.reshape(len(X), -1) for images{images}."
        )
    if shape[1] == 0:
        raise InputError(f"X has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if shape[0] == 0:
        raise InputError(f"X is empty (shape={shape}); pass at least one row.")


def _largest(source: Tensor) -> float:
    """Largest magnitude; raises on NaN and infinity, naming the first such row."""
    largest = 0.0
    for rows in slices(source.shape, _BLOCK_BYTES):
        low, high = (float(value) for value in torch.aminmax(source[rows]))
        # aminmax propagates NaN, so two numbers tell whether the block is finite.
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = rows.start + int((~torch.isfinite(source[rows]).all(dim=1)).nonzero()[0, 0])
            raise InputError(f"X must be finite, got NaN or inf in row {bad}; drop or repair such rows.")
        largest = max(largest, -low, high)
    if largest > _LARGEST:
        raise InputError(f"X holds the value {largest:.3g}, whose squares overflow; rescale X to below {_LARGEST:.0e}.")
    return largest


def _choose_dtype(source: Tensor, largest: float) -> torch.dtype:
    low, high = _SQUARES_FIT
    if largest > high or 0 < largest < low:
        return torch.float64
    if source.dtype in (torch.float32, torch.float16, torch.bfloat16):
        return source.dtype
    return torch.float32 if _rounding_is_harmless(source) else torch.float64


def _rounding_is_harmless(source: Tensor) -> bool:
    """Whether float32 moves the rows by less than 1e-5 of their spread (root mean square, all features together)."""
    error = 0.0
    for rows in slices(source.shape, CACHE_BYTES):
        exact = source[rows].double()
        error += float(_column_sums((exact - exact.float()).square()).sum())
    if error == 0.0:
        return True
    spread = _variance(source[rows].double() for rows in slices(source.shape, CACHE_BYTES)) * source.numel()
    return error < _ROUNDING**2 * spread


def _variance(blocks: Iterator[Tensor]) -> float:
    """Mean over features of the variance over rows: one pass, shifted by the first row against cancellation."""
    shift = None
    total: Any = 0.0
    square: Any = 0.0
    count = 0
    for block in blocks:
        for rows in slices(block.shape, CACHE_BYTES):
            part = block[rows].double()
            shift = part[0].clone() if shift is None else shift
            part = part - shift
            total = total + _column_sums(part)
            square = square + _column_sums(part.square())
            count += len(part)
    return float(np.maximum(square / count - (total / count) ** 2, 0).mean())


def _column_sums(part: Tensor) -> np.ndarray:
    """float64 [D] sums over the rows of ``part`` [n, D], the same for every number of threads."""
    # With a single column torch would share the rows out among threads; two columns are summed in one fixed order.
    wide = part if part.shape[1] > 1 else part.expand(-1, 2)
    return wide.sum(dim=0)[: part.shape[1]].cpu().numpy()
