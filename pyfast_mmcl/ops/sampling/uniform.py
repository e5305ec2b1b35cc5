"""Uniform numbers and logarithms with the same bits on every device and instruction set."""

from __future__ import annotations

import torch
from torch import Tensor

from .keys import _shift, reservoir_keys

_LN2 = 0.6931471805599453
_SQRT2 = 1.4142135623730951
_MANTISSA = (1 << 52) - 1
_ONE = 0x3FF << 52
# log((1 + s)/(1 − s)) = 2s(1 + s²/3 + s⁴/5 + …); for |s| ≤ 0.1716 the next term is below 2⁻⁶⁰.
_SERIES = tuple(1.0 / n for n in range(21, 0, -2))


def open_uniform(seed: int, index: Tensor) -> Tensor:
    """float64 in the open (0, 1) that depends on (seed, id) alone; the odd multiples of 2⁻⁵³, safe for log.

    One bit less than `hash_uniform`: with 53 bits the half step would round the largest value up to 1.
    """
    return (_shift(reservoir_keys(seed, index), 12).to(torch.float64) + 0.5) * 2.0**-52


def portable_log(x: Tensor) -> Tensor:
    """Natural logarithm of normal float64 > 0, within a few ulp, from additions, multiplications and one division.

    The libraries' logarithms differ in the last bit from machine to machine, which would let an example enter a
    memory on one of them only.
    """
    bits = x.contiguous().view(torch.int64)
    exponent = (bits >> 52) - 1023
    m = ((bits & _MANTISSA) | _ONE).view(torch.float64)
    high = m > _SQRT2
    m = torch.where(high, m * 0.5, m)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = torch.full_like(z, _SERIES[0])
    for coefficient in _SERIES[1:]:
        p = p * z
        p = p + coefficient
    return (exponent + high).to(torch.float64) * _LN2 + (s * 2.0) * p
