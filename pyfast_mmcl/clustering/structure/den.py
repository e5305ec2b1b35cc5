"""Deep embedding network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pyfast_mmcl.clustering.codes import kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.neighbors import nearest_rows
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.clustering import nearest_softmax
from pyfast_mmcl.losses.embedding import group_sparsity, heat_kernel, locality
from pyfast_mmcl.models.autoencoder import WIDTHS, MLPAutoencoder
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator


class Network(nn.Module):
    """An autoencoder, centres [K, d] of its codes, and the neighbours [N, k] of the rows with their affinities."""

    centers: Tensor
    neighbors: Tensor
    affinities: Tensor

    def __init__(self, autoencoder: MLPAutoencoder, n_rows: int, n_clusters: int, code: int, k: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.register_buffer("centers", torch.zeros(n_clusters, code))
        self.register_buffer("neighbors", torch.zeros(n_rows, k, dtype=torch.int64))
        self.register_buffer("affinities", torch.zeros(n_rows, k))


@estimator(family="structure", paper="Huang et al., Deep embedding network for clustering, ICPR 2014")
class DEN(DeepEstimator):
    """Deep embedding network: codes that keep neighbours together and use few groups of coordinates, then k-means.

    ``mse(decode(z), x) + alpha · (S[i, j] · ‖z[i] − z[j]‖²).mean() + beta · (Σ_g ‖z[i, g]‖).mean()``, S a heat kernel
    on the nearest neighbours of the rows.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    group : int, default 2; widths : sequence of int, default (500, 500, 2000)
        The code has one group of so many coordinates for every cluster; autoencoder D – widths – K · group.
    neighbors : int, default 10
        Neighbours of a row in S.
    alpha : float, default 30; beta : float, default 0.01
        Weights of locality and of group sparsity. The paper tunes both for every data set; these are ours.
    pretrain_epochs : int, default 30; epochs : int, default 30
        Reconstruction alone, then the whole objective. The paper pretrains layer by layer as Boltzmann machines.
    batch_size : int, default 256; lr : float, default 1e-3 (Adam)
    n_init : int, default 20
        Runs of the k-means at the end.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    Every step draws one neighbour per row, whose expectation is the mean over all of them.

    Attributes: ``labels_`` int64 [N]; ``cluster_centers_`` [K, K · group]; ``network_``, ``history_`` (see
    DeepEstimator).

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Huang et al., ICPR 2014.
    """

    least_rows = 2
    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        group: int = 2,
        widths: Sequence[int] = WIDTHS,
        neighbors: int = 10,
        alpha: float = 30.0,
        beta: float = 0.01,
        pretrain_epochs: int = 30,
        epochs: int = 30,
        batch_size: int = 256,
        lr: float = 1e-3,
        n_init: int = 20,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.group = group
        self.widths = widths
        self.neighbors = neighbors
        self.alpha = alpha
        self.beta = beta
        self.pretrain_epochs = pretrain_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.n_init = n_init
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._demand(
            counts=("group", "neighbors", "batch_size", "n_init"),
            epochs=("pretrain_epochs", "epochs"),
            widths=("widths",),
            above_zero=("lr",),
            from_zero=("alpha", "beta"),
        )
        N, code = len(samples), K * self.group
        autoencoder = MLPAutoencoder(samples.shape[0], code, self.widths)
        return Network(autoencoder, N, K, code, min(self.neighbors, N - 1))

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        autoencoder, N = network.autoencoder, len(samples)

        def reconstruct(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            return {"reconstruction": mse_loss(autoencoder(x)[1], x)}

        def mine() -> None:
            square, index = nearest_rows(samples, self.neighbors)
            network.neighbors.copy_(index)
            network.affinities.copy_(heat_kernel(square))

        def embed(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            z, answer = autoencoder(x)
            here = step.rows.to(z.device)
            which = torch.randint(network.neighbors.shape[1], (len(step.batch), 1), generator=step.generator)
            which = step.own(which).to(z.device)
            near = autoencoder.encode(samples.take(network.neighbors[here].gather(1, which).flatten().cpu()))
            weight = network.affinities[here].gather(1, which).flatten()
            return {
                "reconstruction": mse_loss(answer, x),
                "locality": self.alpha * locality(z, near, weight),
                "sparsity": self.beta * group_sparsity(z, K),
            }

        def end() -> None:
            codes = rows_of(samples, autoencoder.encode)
            network.centers.copy_(kmeans_of(codes, K, n_init=self.n_init).centers)

        how: dict[str, Any] = {"n_rows": N, "batch_size": self.batch_size}
        weights, adam = tuple(autoencoder.parameters()), optimizer_factory("adam", self.lr)
        return [
            single("pretraining", weights, reconstruct, adam, epochs=self.pretrain_epochs, **how),
            single("embedding", weights, embed, adam, epochs=self.epochs, start=mine, end=end, **how),
        ]

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return nearest_softmax(network.autoencoder.encode(x), network.centers)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.autoencoder.encode(x)

    def _keep(self, samples: Samples) -> None:
        self.cluster_centers_ = samples.give(self.network_.centers)
