"""Hash keys: random numbers that depend on (seed, example id) alone.

splitmix64 (Steele, Lea and Flood, OOPSLA 2014). It is a bijection of 64-bit words, so two ids never share a key.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, whole_number

from ..knn._checks import as_tensor
from . import _dispatch, _native_sampling

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = (1 << 64) - 1


@overload
def reservoir_keys(seed: int, index: Tensor) -> Tensor: ...
@overload
def reservoir_keys(seed: int, index: np.ndarray) -> np.ndarray: ...
def reservoir_keys(seed, index):
    """64-bit hash of (seed, global example id): ``keys = mix(index · γ + mix(seed))``.

    Keeping the M examples with the largest keys is a uniform sample without replacement of everything ever offered,
    whatever the order, the batch size, the number of processes or the interruptions.

    index [N] (any shape): integers, torch on any device or NumPy. Returns int64 of the same shape and kind, all
    distinct for distinct ids. Raises InputError for an index that is not of an integer type.
    """
    kind = index.dtype.kind if isinstance(index, np.ndarray) else _kind(index)
    if kind not in "iu":
        got = getattr(index, "dtype", type(index).__name__)
        raise InputError(f"index: expected integer example ids, got {got}; convert with .to(torch.int64).")
    if isinstance(index, np.ndarray):
        return reservoir_keys(seed, as_tensor(index, "index")).numpy()
    index = as_tensor(index, "index")
    number = whole_number("seed", seed, least=None)
    if _dispatch.native_usable("reservoir_keys", index)[0]:
        return _native_sampling.hash_keys(number, index.to(torch.int64).contiguous())
    return reservoir_keys_reference(number, index)


def reservoir_keys_reference(seed: int, index: Tensor) -> Tensor:
    """The keys in torch, on any device."""
    word = index.to(torch.int64) * _signed(_GAMMA) + _signed(_mix(seed))
    word = (word ^ _shift(word, 30)) * _signed(_MIX_1)
    word = (word ^ _shift(word, 27)) * _signed(_MIX_2)
    return word ^ _shift(word, 31)


def _kind(x: object) -> str:
    """What NumPy would call the kind of a tensor's numbers: "i", "f", or "O" for what is no tensor."""
    if not isinstance(x, Tensor):
        return "O"
    return "f" if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool or x.is_quantized else "i"


@overload
def hash_uniform(seed: int, index: Tensor) -> Tensor: ...
@overload
def hash_uniform(seed: int, index: np.ndarray) -> np.ndarray: ...
def hash_uniform(seed, index):
    """Uniform numbers in [0, 1) that depend on (seed, id) alone; index integers [N] → float64 [N], in kind."""
    if isinstance(index, np.ndarray):
        return (reservoir_keys(seed, index).view(np.uint64) >> 11).astype(np.float64) * 2.0**-53
    return _shift(reservoir_keys(seed, index), 11).to(torch.float64) * 2.0**-53


def fold_seed(seed: int, *path: int) -> int:
    """One seed in [0, 2^63) for a place such as (task, epoch, step) under ``seed``; neighbours are unrelated."""
    word = _mix(whole_number("seed", seed, least=None))
    for step in path:
        word = _mix(word ^ (whole_number("step", step, least=None) & _WORD))
    return word >> 1


def _mix(word: int) -> int:
    word = (word + _GAMMA) & _WORD
    word = ((word ^ (word >> 30)) * _MIX_1) & _WORD
    word = ((word ^ (word >> 27)) * _MIX_2) & _WORD
    return word ^ (word >> 31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


def _shift(word: Tensor, bits: int) -> Tensor:
    # int64 shifts copy the sign bit; a logical shift clears the copies.
    return (word >> bits) & ((1 << (64 - bits)) - 1)
