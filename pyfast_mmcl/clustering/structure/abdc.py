"""Auto-encoder based data clustering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pyfast_mmcl.clustering.codes import kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.clustering import nearest_softmax
from pyfast_mmcl.models.autoencoder import WIDTHS, MLPAutoencoder
from pyfast_mmcl.ops.knn import lloyd_step
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator


class Network(nn.Module):
    """An autoencoder, centres [K, d] of its codes, and the cluster of every row [N]."""

    centers: Tensor
    labels: Tensor

    def __init__(self, autoencoder: MLPAutoencoder, n_rows: int, n_clusters: int, code: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.register_buffer("centers", torch.zeros(n_clusters, code))
        self.register_buffer("labels", torch.zeros(n_rows, dtype=torch.int64))


@estimator(family="structure", paper="Song et al., Auto-encoder based data clustering, CIARP 2013")
class ABDC(DeepEstimator):
    """An autoencoder and k-means in turn: codes are drawn to the centre of their cluster, centres follow their codes.

    ``mse(decode(z), x) + lam · ((z − centers[labels])²).sum(1).mean()``; before every epoch one step of k-means.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    code : int, default 10; widths : sequence of int, default (500, 500, 2000)
    lam : float, default 0.1
        Weight of the distance to the centres. (The paper weighs it against the summed reconstruction; here that is the
        mean over features, so that one weight serves rows of any width.)
    pretrain_epochs : int, default 50; epochs : int, default 50
        Reconstruction alone, then the alternation.
    batch_size : int, default 256; lr : float, default 1e-3 (Adam)
    n_init : int, default 20
        Runs of k-means that start the centres.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    An empty cluster keeps its centre and may win rows again. ``predict_proba`` is that of equal round Gaussians around
    the centres: ``softmax(−‖z − c‖²)``.

    Attributes: ``labels_`` int64 [N]; ``cluster_centers_`` [K, code]; ``network_``, ``history_`` (see DeepEstimator).

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Song et al., CIARP 2013, equation 5. Depth, widths and the optimiser are ours.
    """

    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        code: int = 10,
        widths: Sequence[int] = WIDTHS,
        lam: float = 0.1,
        pretrain_epochs: int = 50,
        epochs: int = 50,
        batch_size: int = 256,
        lr: float = 1e-3,
        n_init: int = 20,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.code = code
        self.widths = widths
        self.lam = lam
        self.pretrain_epochs = pretrain_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.n_init = n_init
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._demand(
            counts=("code", "batch_size", "n_init"),
            epochs=("pretrain_epochs", "epochs"),
            widths=("widths",),
            above_zero=("lr",),
            from_zero=("lam",),
        )
        return Network(MLPAutoencoder(samples.shape[0], self.code, self.widths), len(samples), K, self.code)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        autoencoder = network.autoencoder

        def reconstruct(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            return {"reconstruction": mse_loss(autoencoder(x)[1], x)}

        def cluster(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            z, answer = autoencoder(x)
            centers = network.centers[network.labels[step.rows.to(z.device)]]
            return {
                "reconstruction": mse_loss(answer, x),
                "compactness": self.lam * (z - centers).square().sum(1).mean(),
            }

        def start() -> None:
            codes = rows_of(samples, autoencoder.encode)
            network.centers.copy_(kmeans_of(codes, K, n_init=self.n_init).centers)

        def assign(done: int) -> None:
            sums, counts, labels, _ = lloyd_step(rows_of(samples, autoencoder.encode), network.centers)
            means = (sums / counts.clamp_min(1)[:, None]).to(network.centers.dtype)
            network.centers.copy_(torch.where(counts[:, None] > 0, means, network.centers))
            network.labels.copy_(labels)

        how: dict[str, Any] = {"n_rows": len(samples), "batch_size": self.batch_size}
        weights, adam = tuple(autoencoder.parameters()), optimizer_factory("adam", self.lr)
        return [
            single("pretraining", weights, reconstruct, adam, epochs=self.pretrain_epochs, **how),
            single("clustering", weights, cluster, adam, epochs=self.epochs, start=start, watch=assign, **how),
        ]

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return nearest_softmax(network.autoencoder.encode(x), network.centers)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.autoencoder.encode(x)

    def _keep(self, samples: Samples) -> None:
        self.cluster_centers_ = samples.give(self.network_.centers)
