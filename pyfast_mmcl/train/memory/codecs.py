"""How a column lies in memory: as it came, or in fewer bits with a known error."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name

Parts = dict[str, Tensor]
# Shape of a row and dtype.
Layout = tuple[tuple[int, ...], torch.dtype]


class Codec(Protocol):
    """Stores values [N, …] as one or two tensors with N rows each.

    ``layout(shape, dtype)`` gives {part: (shape of a row, dtype)} for rows of ``shape`` and ``dtype``;
    ``encode`` gives those parts, ``decode`` the values again in ``dtype``. ``encode`` raises InputError, naming
    ``column``, for values that the codec cannot hold.
    """

    def layout(self, column: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Layout]: ...

    def encode(self, column: str, values: Tensor) -> Parts: ...

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor: ...


class Raw:
    """Every bit as it came."""

    def layout(self, column: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Layout]:
        return {"codes": (shape, dtype)}

    def encode(self, column: str, values: Tensor) -> Parts:
        return {"codes": values}

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        return parts["codes"]


class UInt8:
    """Values in [0, 1] as round(255 x): |x̂ − x| ≤ 1/510; images of 8 bits divided by 255 come back exactly."""

    def layout(self, column: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Layout]:
        _check_floating(column, "uint8", dtype)
        return {"codes": (shape, torch.uint8)}

    def encode(self, column: str, values: Tensor) -> Parts:
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise InputError(
                f"memory: codec 'uint8' holds values in [0, 1] and {column} has others; "
                f"scale them, or choose 'int8' or 'fp16'."
            )
        return {"codes": (_wide(values) * 255).round().to(torch.uint8)}

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        # Divided, not multiplied by 1/255: k / 255 is then the same float that loaders make of a byte.
        return (parts["codes"].to(_wide_dtype(dtype)) / 255).to(dtype)


class Float16:
    """Half precision: |x̂ − x| ≤ 2⁻¹¹ |x| + 2⁻²⁵ for |x| < 65520."""

    def layout(self, column: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Layout]:
        _check_floating(column, "fp16", dtype)
        return {"codes": (shape, torch.float16)}

    def encode(self, column: str, values: Tensor) -> Parts:
        codes = values.to(torch.float16)
        if not bool(torch.isfinite(codes).all()):
            raise InputError(
                f"memory: codec 'fp16' holds finite values below 65520 and {column} has others; "
                f"clean or scale them, or choose 'int8' or 'raw'."
            )
        return {"codes": codes}

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        return parts["codes"].to(dtype)


class Int8:
    """codes = round(x / scale) with scale = max|x| / 127 of the row: |x̂ − x| ≤ (max|x| / 254)(1 + 2⁻¹⁴) + 2⁻¹⁴⁰.

    per_channel=True takes the maximum of every row and first axis of it (rows [C, …]), the bound holds with that
    maximum. The scale is a float32. Where ``dtype`` is shorter than float32, its own rounding comes on top.
    """

    def __init__(self, *, per_channel: bool = False) -> None:
        self.per_channel = per_channel

    def layout(self, column: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Layout]:
        _check_floating(column, "int8", dtype)
        if self.per_channel and len(shape) < 2:
            raise InputError(
                f"memory: codec 'int8_channel' needs rows [C, …] with channels and {column} has rows of {shape}; "
                f"choose 'int8'."
            )
        return {"codes": (shape, torch.int8), "scale": (shape[:1] if self.per_channel else (), torch.float32)}

    def encode(self, column: str, values: Tensor) -> Parts:
        values = _wide(values)
        first = 2 if self.per_channel else 1
        # A row of no values has no maximum: the zero in front stands for it.
        flat = (
            values.reshape(*values.shape[:first], -1) if values.numel() else values.new_zeros(*values.shape[:first], 1)
        )
        scale = (flat.abs().amax(-1) / 127).to(torch.float32)
        if not bool(torch.isfinite(scale).all()):
            raise InputError(f"memory: codec 'int8' holds finite values and {column} has others; clean them first.")
        step = scale.to(values.dtype).reshape(*scale.shape, *[1] * (values.ndim - first))
        codes = torch.where(step > 0, values / step, 0).round().clamp(-127, 127)
        return {"codes": codes.to(torch.int8), "scale": scale}

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        codes, scale = parts["codes"].to(_wide_dtype(dtype)), parts["scale"]
        step = scale.to(codes.dtype).reshape(*scale.shape, *[1] * (codes.ndim - scale.ndim))
        return (codes * step).to(dtype)


CODECS: dict[str, Codec] = {
    "raw": Raw(),
    "uint8": UInt8(),
    "fp16": Float16(),
    "int8": Int8(),
    "int8_channel": Int8(per_channel=True),
}


def get_codec(name: str) -> Codec:
    """The codec called ``name``; raises UnknownNameError."""
    if name not in CODECS:
        raise unknown_name("codec of a memory column", name, CODECS)
    return CODECS[name]


def _check_floating(column: str, codec: str, dtype: torch.dtype) -> None:
    if not dtype.is_floating_point:
        raise InputError(f"memory: codec {codec!r} holds floating values and {column} is {dtype}; store it 'raw'.")


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _wide(values: Tensor) -> Tensor:
    return values.to(_wide_dtype(values.dtype))
