"""SpectralNet: spectral clustering by a network, for rows that come later too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl.clustering.codes import DIVERGED, kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.neighbors import neighbors_of
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.clustering import nearest_softmax
from pyfast_mmcl.losses.graph import graph_smoothness, neighbor_affinity, pair_contrast
from pyfast_mmcl.models.autoencoder import mlp
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator
from pyfast_mmcl.train.terms import NonFiniteError

# Added to the diagonal before the Cholesky factorisation, relative to its mean: outputs may be dependent at first.
_RIDGE = 1e-6
_LEAST = 1e-24  # outputs that are all zero: the inverse must stay within float32


class Network(nn.Module):
    """The map to K coordinates, the matrix that makes them orthonormal, and an optional Siamese map of distances."""

    whitening: Tensor
    centers: Tensor
    neighbors: Tensor

    def __init__(
        self, inputs: int, widths: Sequence[int], n_clusters: int, siamese: Sequence[int], n_rows: int, k: int
    ) -> None:
        super().__init__()
        self.layers = mlp([inputs, *widths, n_clusters])
        self.siamese = mlp([inputs, *siamese]) if siamese else nn.Identity()
        self.register_buffer("whitening", torch.eye(n_clusters))
        self.register_buffer("centers", torch.zeros(n_clusters, n_clusters))
        self.register_buffer("neighbors", torch.zeros(n_rows if siamese else 0, k, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) @ self.whitening

    def orthogonalize(self, x: Tensor) -> None:
        """Make the outputs for ``x`` [B, D] orthonormal, and those of all rows like them: ``yᵀ y = B · I``."""
        self.whitening.copy_(whitening_of(self.layers(x)))


def whitening_of(y: Tensor) -> Tensor:
    """The matrix R [K, K] after which ``(y R)ᵀ (y R) = B · I``: the inverse of a Cholesky factor, in float64.

    Raises NonFiniteError for outputs y [B, K] that are not finite.
    """
    if not bool(torch.isfinite(y).all()):
        raise NonFiniteError(DIVERGED)
    wide = y.double()
    gram = wide.T @ wide / len(wide)
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    ridge = _RIDGE * gram.diagonal().mean().clamp_min(_LEAST)
    factor = torch.linalg.cholesky(gram + ridge * identity)
    return torch.linalg.solve_triangular(factor, identity, upper=False).T.to(y.dtype)


@estimator(
    family="structure", paper="Shaham et al., SpectralNet: spectral clustering using deep neural networks, ICLR 2018"
)
class SpectralNet(DeepEstimator):
    """A network whose outputs are the smoothest orthonormal functions on the graph of neighbours, then k-means.

    ``minimise (W · ‖y_i − y_j‖²).sum() / B²`` subject to ``yᵀ y = B · I``, W a Gaussian kernel on nearest neighbours.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    widths : sequence of int, default (1024, 1024, 512)
        Hidden layers (appendix of the paper).
    neighbors : int, default 10
        Neighbours of a row within its batch that W connects it to.
    siamese : sequence of int, default ()
        Layers of a Siamese network whose distances W is made of, as (512, 10); trained first on pairs of neighbours
        and pairs of random rows with margin 1. () takes distances of the rows.
    siamese_epochs : int, default 20
    epochs : int, default 60; batch_size : int, default 1024; lr : float, default 1e-3 (Adam)
        Every step orthogonalises its own batch, and the gradient goes through it. (The paper holds the matrix of one
        batch fixed while it descends on another, §3.2; outputs then collapsed here at its rate.)
    n_init : int, default 20
        Runs of the k-means at the end.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    Neighbours are those within a batch, so batches should be large; the last coordinate matrix is that of at most
    ``10 · batch_size`` rows. One kernel scale per batch, the median distance to the last neighbour.

    Attributes: ``labels_`` int64 [N]; ``network_``, ``history_`` (see DeepEstimator). ``transform`` gives y [N, K].

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Shaham et al., ICLR 2018, equations 3, 7 and 8.
    """

    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        widths: Sequence[int] = (1024, 1024, 512),
        neighbors: int = 10,
        siamese: Sequence[int] = (),
        siamese_epochs: int = 20,
        epochs: int = 60,
        batch_size: int = 1024,
        lr: float = 1e-3,
        n_init: int = 20,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.widths = widths
        self.neighbors = neighbors
        self.siamese = siamese
        self.siamese_epochs = siamese_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.n_init = n_init
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._check()
        return Network(samples.shape[0], self.widths, K, self.siamese, len(samples), self.neighbors)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        N = len(samples)

        def mine() -> None:
            network.neighbors.copy_(neighbors_of(samples, self.neighbors))

        def tell_apart(step: Step) -> dict[str, Tensor]:
            anchors = step.rows
            which = step.own(torch.randint(self.neighbors, step.batch.shape, generator=step.generator))
            near = network.neighbors[anchors.to(network.neighbors.device)].cpu().gather(1, which[:, None]).flatten()
            far = step.own(torch.randint(N, step.batch.shape, generator=step.generator))
            a = network.siamese(samples.take(anchors))
            b = network.siamese(samples.take(torch.cat([near, far])))
            alike = torch.arange(2 * len(anchors), device=a.device) < len(anchors)
            return {"contrast": pair_contrast(a.repeat(2, 1), b, alike)}

        def smooth(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.batch)
            with torch.no_grad():
                W = neighbor_affinity(network.siamese(x), self.neighbors)
            y = step.gather(network.layers(step.own(x)).float())
            # What is left when directions are whitened are small differences, too small for bfloat16.
            with torch.autocast(y.device.type, enabled=False):
                return {"smoothness": graph_smoothness(y @ whitening_of(y), W)}

        def end() -> None:
            sample = torch.arange(N) if N <= 10 * self.batch_size else torch.randperm(N)[: 10 * self.batch_size]
            network.orthogonalize(samples.take(sample))
            network.centers.copy_(kmeans_of(rows_of(samples, network), K, n_init=self.n_init).centers)

        adam = optimizer_factory("adam", self.lr)
        how: dict[str, Any] = {"n_rows": N, "batch_size": self.batch_size}
        phases = []
        if self.siamese:
            phases.append(single("distances", network.siamese.parameters(), tell_apart, adam, start=mine,
                                 epochs=self.siamese_epochs, **how))  # fmt: skip
        return [
            *phases,
            # Of fewer rows than functions all are orthonormal in the same way, and nothing can be smooth.
            single(
                "spectrum",
                network.layers.parameters(),
                smooth,
                adam,
                epochs=self.epochs,
                end=end,
                least_batch=2 * max(K, self.neighbors),
                **how,
            ),
        ]

    def _check(self) -> None:
        self._demand(
            counts=("neighbors", "batch_size", "n_init"),
            epochs=("siamese_epochs", "epochs"),
            widths=("widths", "siamese"),
            above_zero=("lr",),
        )

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return nearest_softmax(network(x), network.centers)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network(x)
