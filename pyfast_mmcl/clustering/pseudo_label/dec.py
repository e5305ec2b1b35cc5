"""Deep embedded clustering, and its improved form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pyfast_mmcl.clustering.codes import kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.clustering import assignment_kl, student_t, target_distribution
from pyfast_mmcl.models.autoencoder import WIDTHS, MLPAutoencoder
from pyfast_mmcl.train.optimizers import Factory, optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator


class Network(nn.Module):
    """An autoencoder, centres [K, d] in its code space, and the targets p [N, K] and last labels [N] of the rows."""

    target: Tensor
    labels: Tensor

    def __init__(self, autoencoder: MLPAutoencoder, n_rows: int, n_clusters: int, code: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.centers = nn.Parameter(torch.zeros(n_clusters, code))
        self.register_buffer("target", torch.zeros(n_rows, n_clusters))
        self.register_buffer("labels", torch.full((n_rows,), -1))


@estimator(family="pseudo_label", paper="Xie et al., Unsupervised deep embedding for clustering analysis, ICML 2016")
class DEC(DeepEstimator):
    """Deep embedded clustering: an autoencoder's codes pull together around centres by their own confident assignments.

    ``q = student_t(encode(x), centers)``, ``p = q² / q.sum(0)`` (rows normalised); minimise ``KL(p ‖ q)``, or, improved
    (IDEC), ``mse(decode(encode(x)), x) + gamma · KL(p ‖ q)``.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    code : int, default 10; widths : sequence of int, default (500, 500, 2000)
        The autoencoder D – widths – code (§4.1 of the paper).
    pretrain_epochs : int, default 100
        Epochs of reconstruction before clustering. The paper pretrains layer by layer; here all layers learn at once,
        by Adam with rate 1e-3 in batches of ``batch_size``.
    epochs : int, default 100
        Most epochs of clustering.
    update_interval : int or None, default None
        Steps between two updates of the targets p. None: 140, the paper's for sets whose epochs have more steps, or an
        epoch where that is shorter.
    tol : float, default 1e-3
        Clustering ends when at an update at most this share of the labels has changed.
    improved : bool, default False; gamma : float, default 0.1
        IDEC, which keeps the decoder, and its weight of clustering (§4.2 of its paper).
    batch_size : int, default 256
    lr : float, default 0.01
        Of clustering: SGD with momentum 0.9 for DEC (paper), Adam with a tenth of it, 1e-3, for IDEC (its paper).
    n_init : int, default 20
        Runs of k-means on the codes that start the centres.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()
        Device, checkpoints, precision, progress.

    Attributes
    ----------
    labels_ : int64 [N]
    cluster_centers_ : [K, code], in code space
    network_, history_ : see DeepEstimator

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    References
    ----------
    Xie, Girshick, Farhadi, ICML 2016 (equations 1 to 3); Guo et al., *Improved deep embedded clustering with local
    structure preservation*, IJCAI 2017.
    """

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        code: int = 10,
        widths: Sequence[int] = WIDTHS,
        pretrain_epochs: int = 100,
        epochs: int = 100,
        update_interval: int | None = None,
        tol: float = 1e-3,
        improved: bool = False,
        gamma: float = 0.1,
        batch_size: int = 256,
        lr: float = 0.01,
        n_init: int = 20,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.code = code
        self.widths = widths
        self.pretrain_epochs = pretrain_epochs
        self.epochs = epochs
        self.update_interval = update_interval
        self.tol = tol
        self.improved = improved
        self.gamma = gamma
        self.batch_size = batch_size
        self.lr = lr
        self.n_init = n_init
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._check()
        return Network(MLPAutoencoder(samples.shape[0], self.code, self.widths), len(samples), K, self.code)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        how: dict[str, Any] = {"n_rows": len(samples), "batch_size": self.batch_size}
        autoencoder = network.autoencoder

        def reconstruct(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            return {"reconstruction": mse_loss(autoencoder(x)[1], x)}

        def cluster(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            z = autoencoder.encode(x)
            kl = assignment_kl(network.target[step.rows.to(z.device)], student_t(z, network.centers))
            if not self.improved:
                return {"clustering": kl}
            return {"reconstruction": mse_loss(autoencoder.decode(z), x), "clustering": self.gamma * kl}

        def start() -> None:
            network.centers.copy_(kmeans_of(rows_of(samples, autoencoder.encode), K, n_init=self.n_init).centers)

        def update(done: int) -> bool:
            q = student_t(rows_of(samples, autoencoder.encode), network.centers)
            labels = q.argmax(1)
            changed = float((labels != network.labels).float().mean())
            network.target.copy_(target_distribution(q))
            network.labels.copy_(labels)
            return done > 0 and changed <= self.tol

        learning = [*autoencoder.encoder.parameters(), network.centers]
        if self.improved:
            learning += autoencoder.decoder.parameters()
        pretraining = single("pretraining", autoencoder.parameters(), reconstruct, optimizer_factory("adam", 1e-3),
                             epochs=self.pretrain_epochs, **how)  # fmt: skip
        interval = self.update_interval or min(140, pretraining.n_batches)
        return [
            pretraining,
            single("clustering", learning, cluster, self._optimizer(), epochs=self.epochs, start=start, watch=update,
                   watch_every=interval, **how),
        ]  # fmt: skip

    def _check(self) -> None:
        self._demand(
            counts=("code", "batch_size", "n_init", *(() if self.update_interval is None else ("update_interval",))),
            epochs=("pretrain_epochs", "epochs"),
            widths=("widths",),
            above_zero=("lr", "gamma"),
            from_zero=("tol",),
        )

    def _optimizer(self) -> Factory:
        if self.improved:
            return optimizer_factory("adam", self.lr / 10)
        return lambda parameters: torch.optim.SGD(parameters, lr=self.lr, momentum=0.9)

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return student_t(network.autoencoder.encode(x), network.centers)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.autoencoder.encode(x)

    network_: Network

    def _keep(self, samples: Samples) -> None:
        self.cluster_centers_ = samples.give(self.network_.centers.detach())
