"""Autoencoders of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from pyfast_mmcl.models.linear import Linear

# Widths of van der Maaten (2009), which DEC and its successors use.
WIDTHS = (500, 500, 2000)


class MLPAutoencoder(nn.Module):
    """Fully connected autoencoder D – widths – code – reversed widths – D with ReLU between the layers.

    ``z = encode(x)`` [B, code], ``decode(z)`` [B, D]; calling it gives both. The code and the output are linear.
    """

    def __init__(self, inputs: int, code: int = 10, widths: Sequence[int] = WIDTHS, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = mlp([inputs, *widths, code], dropout=dropout)
        self.decoder = mlp([code, *reversed(widths), inputs])

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encode(x)
        return z, self.decode(z)


def mlp(sizes: Sequence[int], *, dropout: float = 0.0, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers of these sizes with ReLU (after batch normalisation, if asked) between them; the last is linear."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers.append(Linear(before, after))
        layers += [nn.BatchNorm1d(after)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, Linear(sizes[-2], sizes[-1]))
