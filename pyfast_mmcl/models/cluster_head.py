"""Heads that turn embeddings into soft assignments."""

from __future__ import annotations

from torch import Tensor, nn

from pyfast_mmcl.models.autoencoder import mlp

_STD = 0.02


class ClusterHead(nn.Module):
    """Layers d – width – K with batch normalisation and ReLU, and the logarithm of the softmax: [B, d] → [B, K].

    Weights start from a normal distribution of deviation 0.02, and biases from 0 (Li et al., ICML 2024).
    """

    def __init__(self, features: int, width: int, n_clusters: int) -> None:
        super().__init__()
        self.layers = mlp([features, width, n_clusters], batch_norm=True)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_STD)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).log_softmax(1)
