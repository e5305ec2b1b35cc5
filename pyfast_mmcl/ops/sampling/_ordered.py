"""Sums whose order is written down, so that every device, instruction set and number of threads gives the same bits."""

from __future__ import annotations

import torch
from torch import Tensor

LANES = 32


def ordered_dot(x: Tensor, y: Tensor) -> Tensor:
    """``(x * y).sum(-1)`` for float64 x [..., D] and y that broadcasts to it.

    32 running sums, element d added to sum d mod 32 in ascending d, products rounded before they are added; then
    halves are added: 16 to 16, 8 to 8, … down to one. Rows with the same values have the same sum, bit for bit.
    """
    terms = x * y
    rest = -terms.shape[-1] % LANES
    if rest:
        terms = torch.nn.functional.pad(terms, (0, rest))
    sums = terms[..., :LANES]
    for start in range(LANES, terms.shape[-1], LANES):
        sums = sums + terms[..., start : start + LANES]
    width = LANES
    while width > 1:
        width //= 2
        sums = sums[..., :width] + sums[..., width : 2 * width]
    return sums[..., 0]


def unit_rows(x: Tensor) -> Tensor:
    """Rows [N, D] float64 divided by their length; a row of zeros stays zero, one with NaN or infinity has NaN."""
    # A power of two per row changes no bit of the result, and keeps squares from overflow and from vanishing.
    exponent = x.abs().amax(1, keepdim=True).frexp().exponent.to(torch.int64).clamp(-1000, 1000)
    x = x * ((1023 - exponent) << 52).view(torch.float64)
    length = ordered_dot(x, x).sqrt()[:, None]
    return torch.where(length == 0, torch.zeros_like(x), x / length)
