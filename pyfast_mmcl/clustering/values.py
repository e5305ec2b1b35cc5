"""Values of estimators in the words of a checkpoint (tensors, numbers, texts, lists, dicts), and back."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from torch import Tensor

from pyfast_mmcl._errors import CheckpointError, InputError

_PACKAGE = __name__.partition(".")[0]
_KIND, _VALUE = "is", "value"
_NUMBERS = "fiub"


@dataclass(frozen=True)
class Foreign:
    """Stands for a value that cannot be stored; ``kind`` is the name of its type."""

    kind: str


def encode(value: Any, name: str) -> Any:
    """``value`` as ``save_checkpoint`` takes it. Raises InputError, which calls it ``name``, for what has no form."""
    if value is None or (isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins"):
        return value
    if isinstance(value, Tensor):
        return {_KIND: "tensor", _VALUE: value}
    if isinstance(value, np.ndarray | np.generic):
        return _encode_array(value, name)
    if isinstance(value, list | tuple):
        return {_KIND: type(value).__name__, _VALUE: [encode(item, name) for item in value]}
    if type(value) is dict:
        return {_KIND: "dict", _VALUE: [[encode(k, name), encode(v, name)] for k, v in value.items()]}
    if isinstance(value, torch.dtype):
        return {_KIND: "dtype", _VALUE: str(value).removeprefix("torch.")}
    if isinstance(value, Path):
        return {_KIND: "path", _VALUE: str(value)}
    if issparse(value):
        rows = csr_array(value)
        parts = [encode(part, name) for part in (rows.data, rows.indices, rows.indptr)]
        return {_KIND: "sparse", "shape": list(rows.shape), _VALUE: parts}
    if is_dataclass(value) and type(value).__module__.startswith(f"{_PACKAGE}."):
        own = {field.name: encode(getattr(value, field.name), name) for field in fields(value) if field.init}
        return {_KIND: "object", "type": f"{type(value).__module__}:{type(value).__qualname__}", _VALUE: own}
    raise InputError(f"{name} is a {type(value).__name__}, which cannot be stored without a pickle.")


def decode(stored: Any) -> Any:
    """What was encoded. Raises CheckpointError for a kind that this version does not know."""
    if not isinstance(stored, dict):
        return stored
    kind, value = stored[_KIND], stored[_VALUE]
    if kind not in _DECODERS:
        raise CheckpointError(f"a stored value is of the unknown kind {kind!r}; use the version that saved it.")
    return _DECODERS[kind](value, stored)


def _encode_array(value: Any, name: str) -> Any:
    array = np.asarray(value)
    scalar = isinstance(value, np.generic)
    if array.dtype.kind in _NUMBERS and array.dtype.itemsize <= 8:
        # A copy in native order: torch reads no other, and a memory map is not to be held.
        plain = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        return {_KIND: "scalar" if scalar else "array", _VALUE: torch.from_numpy(plain)}
    if array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat)):
        kind = {"shape": list(array.shape), "object": array.dtype.kind == "O"}
        return {_KIND: "words", **kind, _VALUE: [str(item) for item in array.flat]}
    raise InputError(f"{name} is an array of {array.dtype}, which cannot be stored without a pickle.")


def _words(value: list[str], stored: dict[str, Any]) -> np.ndarray:
    return np.array(value, dtype=object if stored["object"] else None).reshape(stored["shape"])


def _dtype(value: str, stored: dict[str, Any]) -> torch.dtype:
    found = getattr(torch, value, None)
    if not isinstance(found, torch.dtype):
        raise CheckpointError(f"{value!r} is no dtype of torch {torch.__version__}.")
    return found


def _object(value: dict[str, Any], stored: dict[str, Any]) -> Any:
    """An object of one of this package's own dataclasses; nothing else is ever called."""
    module, _, name = stored["type"].partition(":")
    found = getattr(import_module(module), name, None) if module.startswith(f"{_PACKAGE}.") else None
    if not (isinstance(found, type) and is_dataclass(found)):
        raise CheckpointError(f"a stored object is of the unknown type {stored['type']!r}.")
    return found(**{field: decode(item) for field, item in value.items()})


def _sparse(value: list[Any], stored: dict[str, Any]) -> csr_array:
    return csr_array(tuple(decode(part) for part in value), shape=tuple(stored["shape"]))


_DECODERS: dict[str, Any] = {
    "tensor": lambda value, stored: value,
    "array": lambda value, stored: value.numpy(),
    "scalar": lambda value, stored: value.numpy()[()],
    "list": lambda value, stored: [decode(item) for item in value],
    "tuple": lambda value, stored: tuple(decode(item) for item in value),
    "dict": lambda value, stored: {decode(k): decode(v) for k, v in value},
    "dtype": _dtype,
    "path": lambda value, stored: Path(value),
    "words": _words,
    "object": _object,
    "sparse": _sparse,
}
