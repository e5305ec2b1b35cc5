"""Invariant information clustering."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl.clustering.augment import View, policy_for, two_views
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.invariance import joint_assignment, joint_information
from pyfast_mmcl.models.image_encoders import Backbone, image_encoder
from pyfast_mmcl.models.linear import Linear
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator

_SEEDS = 2**62


class Network(nn.Module):
    """An encoder of images, heads of K clusters and heads of many more, and which head of K was best."""

    best: Tensor

    def __init__(self, encoder: nn.Module, width: int, n_clusters: int, n_over: int, heads: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = Linear(width, heads * n_clusters)
        self.over = Linear(width, heads * n_over)
        self.n_heads = heads
        self.register_buffer("best", torch.zeros((), dtype=torch.int64))

    def assign(self, codes: Tensor, heads: nn.Linear) -> Tensor:
        """Soft assignments [B, heads, K] of every head."""
        return heads(codes).unflatten(1, (self.n_heads, -1)).softmax(2)

    def forward(self, x: Tensor) -> Tensor:
        """Soft assignments [B, K] of the best head."""
        return self.assign(self.encoder(x), self.heads)[:, self.best]


@estimator(
    family="augmentation",
    paper="Ji et al., Invariant information clustering for unsupervised image classification and segmentation, "
    "ICCV 2019",
)
class IIC(DeepEstimator):
    """Labels of two views of an image tell as much of one another as they can.

    ``P = sym(p.T @ q / B)`` for assignments p, q of two views; maximise ``(P · log(P / (P.sum(1) · P.sum(0)))).sum()``.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    backbone : "small", "small_resnet", "resnet18", "resnet34" or a function channels → nn.Module, default "small"
        Encoder of the images (``models.image_encoders``). The paper's is a VGG-like or a residual network.
    augment : str, Policy or a function of one image, default "auto"
        What makes a view (``clustering.augment``). Both views are changed in the same way: where one is plain, as in
        the paper, being plain is something that labels can tell of one another.
    heads : int, default 5
        Heads with starting weights of their own; the one with the most information at the end answers (§3.4).
    over : int, default 5
        The auxiliary heads have ``over`` times K clusters (§3.4).
    lam : float, default 1.0
        Weight of the entropies of the clusters' sizes; 1 is the mutual information.
    epochs : int, default 120; batch_size : int, default 256; lr : float, default 2e-3 (Adam)
        Paper: 2,000 epochs and more, rate 1e-4, batches of 700 with repetitions. Both kinds of heads learn at every
        step from one pass of the encoder, instead of by turns from epoch to epoch.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    X is images [N, C, H, W], bytes or floats in [0, 1]. Attributes: ``labels_`` int64 [N]; ``network_``, ``history_``
    (see DeepEstimator). ``transform`` gives the encoder's features.

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Ji et al., ICCV 2019, equations 2 and 3.
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
        heads: int = 5,
        over: int = 5,
        lam: float = 1.0,
        epochs: int = 120,
        batch_size: int = 256,
        lr: float = 2e-3,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.backbone = backbone
        self.augment = augment
        self.heads = heads
        self.over = over
        self.lam = lam
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._demand(counts=("heads", "over", "batch_size"), epochs=("epochs",), above_zero=("lr",), from_zero=("lam",))
        encoder, width = image_encoder(self.backbone, samples.shape)
        return Network(encoder, width, K, self.over * K, self.heads)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        policy = policy_for(self.augment, samples.shape)

        def objective(step: Step) -> dict[str, Tensor]:
            codes = network.encoder(step.own(two_views(policy, samples.take(step.batch), step.generator)))
            terms = {}
            for name, heads in (("clusters", network.heads), ("overclusters", network.over)):
                p, q = step.gather(network.assign(codes, heads).float()).chunk(2)
                terms[name] = -joint_information(joint_assignment(p, q), self.lam).mean()
            return terms

        def end() -> None:
            network.best.copy_(joint_information(joint_of_all(network, samples, policy), self.lam).argmax())

        return [
            single(
                "clustering",
                network.parameters(),
                objective,
                optimizer_factory("adam", self.lr),
                n_rows=len(samples),
                epochs=self.epochs,
                batch_size=self.batch_size,
                end=end,
            )
        ]

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return network(x)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.encoder(x)


def joint_of_all(network: Network, samples: Samples, policy: View) -> Tensor:
    """The joint assignment [heads, K, K] of two views of all rows, seeded by torch's generator."""
    generator = torch.Generator().manual_seed(int(torch.randint(_SEEDS, ())))
    total: Any = 0
    for _, x in samples.blocks():
        p, q = network.assign(network.encoder(two_views(policy, x, generator)), network.heads).chunk(2)
        total = total + joint_assignment(p, q) * (len(x) / len(samples))
    return total
