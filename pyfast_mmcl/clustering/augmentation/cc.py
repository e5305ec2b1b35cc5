"""Contrastive clustering."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from pyfast_mmcl.clustering.augment import policy_for, two_views
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.invariance import column_contrast, imbalance
from pyfast_mmcl.models.autoencoder import mlp
from pyfast_mmcl.models.image_encoders import Backbone, image_encoder
from pyfast_mmcl.ops.contrastive import nt_xent
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator


class Network(nn.Module):
    """An encoder of images with a head of instances (unit rows) and a head of clusters (soft assignments)."""

    def __init__(self, encoder: nn.Module, width: int, n_clusters: int, projection: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.instances = mlp([width, width, projection])
        self.clusters = mlp([width, width, n_clusters])

    def forward(self, x: Tensor) -> Tensor:
        """Soft assignments [B, K]."""
        return self.clusters(self.encoder(x)).softmax(1)


@estimator(family="augmentation", paper="Li et al., Contrastive clustering, AAAI 2021")
class CC(DeepEstimator):
    """Two views of an image are alike among all images, and two views of a cluster among all clusters.

    ``nt_xent(z, 1 / tau_instance) + nt_xent(columns of p, 1 / tau_cluster) + Σ_views (log K − H(p.mean(0)))``, z
    [2B, projection] unit rows of the instance head and p [B, K] assignments of the cluster head.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    backbone : "small", "small_resnet", "resnet18", "resnet34" or a function channels → nn.Module, default "small"
        Encoder of the images (``models.image_encoders``). The paper takes resnet34 on images of 224 pixels.
    augment : str, Policy or a function of one image, default "auto"
        What makes a view (``clustering.augment``); for colour images SimCLR's policy, as in the paper.
    projection : int, default 128
        Width of the instance head's rows (§3.2).
    tau_instance, tau_cluster : float, default 0.5 and 1.0
        Temperatures (§4.2).
    epochs : int, default 100; batch_size : int, default 256; lr : float, default 1e-3 (Adam)
        Paper: 1,000 epochs, rate 3e-4; the higher rate suits the smaller network and fewer epochs.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    X is images [N, C, H, W], bytes or floats in [0, 1]. Attributes: ``labels_`` int64 [N]; ``network_``, ``history_``
    (see DeepEstimator). ``transform`` gives the encoder's features.

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Li et al., AAAI 2021, equations 1 to 7.
    """

    takes_images = True
    least_rows = 2
    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        backbone: Backbone = "small",
        augment: Any = "auto",
        projection: int = 128,
        tau_instance: float = 0.5,
        tau_cluster: float = 1.0,
        epochs: int = 100,
        batch_size: int = 256,
        lr: float = 1e-3,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.backbone = backbone
        self.augment = augment
        self.projection = projection
        self.tau_instance = tau_instance
        self.tau_cluster = tau_cluster
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._demand(
            counts=("projection", "batch_size"),
            epochs=("epochs",),
            above_zero=("tau_instance", "tau_cluster", "lr"),
        )
        encoder, width = image_encoder(self.backbone, samples.shape)
        return Network(encoder, width, K, self.projection)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        policy = policy_for(self.augment, samples.shape)

        def objective(step: Step) -> dict[str, Tensor]:
            codes = network.encoder(step.own(two_views(policy, samples.take(step.batch), step.generator)))
            z = step.gather(normalize(network.instances(codes).float(), dim=1))
            p, q = step.gather(network.clusters(codes).float().softmax(1)).chunk(2)
            return {
                "instances": nt_xent(z, 1 / self.tau_instance),
                "clusters": column_contrast(p, q, self.tau_cluster),
                "balance": imbalance(p) + imbalance(q),
            }

        return [
            single(
                "clustering",
                network.parameters(),
                objective,
                optimizer_factory("adam", self.lr),
                n_rows=len(samples),
                epochs=self.epochs,
                batch_size=self.batch_size,
            )
        ]

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return network(x)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.encoder(x)
