"""Semantic clustering by adopting nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.augment import View, policy_for
from pyfast_mmcl.clustering.base import whole_number
from pyfast_mmcl.clustering.codes import rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.neighbors import neighbors_of
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.information import marginal_entropy
from pyfast_mmcl.losses.neighborhood import confident_cross_entropy, neighbor_consistency
from pyfast_mmcl.models.autoencoder import mlp
from pyfast_mmcl.models.image_encoders import Backbone, image_encoder
from pyfast_mmcl.models.linear import Linear
from pyfast_mmcl.ops.contrastive import nt_xent
from pyfast_mmcl.train.optimizers import Factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator

_PROJECTION = 128  # features that the pretext task compares (SimCLR)
_WEIGHT_DECAY = 1e-4
_COMPARED = 10_000  # most rows by which heads are compared


class Network(nn.Module):
    """An encoder, several heads with K clusters each, and what the pretext task compares images by."""

    neighbors: Tensor
    best: Tensor

    def __init__(self, encoder: nn.Module, width: int, n_clusters: int, heads: int, n_rows: int, k: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = Linear(width, heads * n_clusters)
        self._split = (heads, n_clusters)
        self.register_buffer("neighbors", torch.zeros(n_rows, k, dtype=torch.int64))
        self.register_buffer("best", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Scores [b, H, K] of every head."""
        return self.heads(self.encoder(x)).unflatten(1, self._split)

    def scores(self, x: Tensor) -> Tensor:
        """Scores [b, K] of the head that was kept."""
        return self(x)[:, self.best]


class ImageNetwork(Network):
    """The same for images, with what the pretext task compares them by."""

    def __init__(self, encoder: nn.Module, width: int, *sizes: int) -> None:
        super().__init__(encoder, width, *sizes)
        self.projection = mlp([width, width, _PROJECTION])

    def project(self, x: Tensor) -> Tensor:
        """Unit rows [b, 128]."""
        return normalize(self.projection(self.encoder(x)), dim=1)


@estimator(
    family="neighborhood",
    paper="Van Gansbeke et al., SCAN: learning to classify images without labels, ECCV 2020",
)
class SCAN(DeepEstimator):
    """Assignments that a row shares with its nearest neighbours, all clusters in use; then what is certain teaches.

    ``−log(p[i] · p[j]).mean() − entropy · H(p.mean(0))``, j a neighbour of i; then cross-entropy of changed rows with
    the clusters of those rows whose p is above ``threshold``.

    X is vectors or embeddings [N, D], whose neighbours are taken as they are, or images [N, C, H, W], which first learn
    features by SimCLR (two changed views of an image are alike).

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    neighbors : int, default 20; metric : "l2", "cosine" or "ip", default "l2"
        Nearest other rows, one of which is drawn in every step (§3.1). Images are always compared by cosine.
    entropy : float, default 5.0; heads : int, default 10
        Weight of the entropy; heads learn side by side on one encoder and the one with the lowest loss is kept (§3.1).
    widths : sequence of int, default (512,)
        Layers of the encoder of vectors, with batch normalisation and ReLU.
    noise : float, default 0.3; dropout : float, default 0.2
        How vectors are changed, where the paper changes images: normal noise of so many standard deviations (the rows
        have variance 1 on average over the features), and a share of features set to their mean. Ours: a change that
        keeps the meaning of any vector is not known.
    backbone : str or function, default "small"
        Encoder of images (``models.image_encoders``; the paper's is "resnet18").
    augment, strong : default "auto"
        How images are changed in the pretext task and afterwards (``clustering.augment``); "auto" is SimCLR's policy
        and the paper's strong one for colours, "digits" for one channel.
    pretext_epochs : int, default 100; pretext_batch_size : int, default 256; pretext_lr : float, default 1e-3 (Adam)
        The paper runs 500 epochs of SGD with batches of 512.
    temperature : float, default 0.1
        Of the pretext task's contrast.
    epochs : int, default 100; batch_size : int, default 128; lr : float, default 1e-3 (Adam, weight decay 1e-4)
        The paper's rate, 1e-4, is for an encoder that its pretext task trained for long.
    self_label_epochs : int, default 50; self_label_batch_size : int, default 1000; threshold : float, default 0.99;
    self_label_lr : float, default 1e-4 (Adam, weight decay 1e-4)
        Of the second step; 0 epochs leave it out. (200 epochs in the paper.) No entropy holds the clusters apart here:
        at a high rate a cluster of few certain rows is lost to one that is like it.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    Attributes: ``labels_`` int64 [N]; ``network_``, ``history_`` (see DeepEstimator). ``transform`` gives the features
    of the encoder.

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Van Gansbeke et al., ECCV 2020, equation 2 and §2.3.
    """

    takes_images = None
    least_rows = 2
    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        neighbors: int = 20,
        metric: str = "l2",
        entropy: float = 5.0,
        heads: int = 10,
        widths: Sequence[int] = (512,),
        noise: float = 0.3,
        dropout: float = 0.2,
        backbone: Backbone = "small",
        augment: Any = "auto",
        strong: Any = "auto",
        pretext_epochs: int = 100,
        pretext_batch_size: int = 256,
        pretext_lr: float = 1e-3,
        temperature: float = 0.1,
        epochs: int = 100,
        batch_size: int = 128,
        lr: float = 1e-3,
        self_label_epochs: int = 50,
        self_label_batch_size: int = 1000,
        threshold: float = 0.99,
        self_label_lr: float = 1e-4,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.neighbors = neighbors
        self.metric = metric
        self.entropy = entropy
        self.heads = heads
        self.widths = widths
        self.noise = noise
        self.dropout = dropout
        self.backbone = backbone
        self.augment = augment
        self.strong = strong
        self.pretext_epochs = pretext_epochs
        self.pretext_batch_size = pretext_batch_size
        self.pretext_lr = pretext_lr
        self.temperature = temperature
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.self_label_epochs = self_label_epochs
        self.self_label_batch_size = self_label_batch_size
        self.threshold = threshold
        self.self_label_lr = self_label_lr
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._check()
        sizes = (K, self.heads, len(samples), self.neighbors)
        if samples.is_image:
            return ImageNetwork(*image_encoder(self.backbone, samples.shape), *sizes)
        layers = mlp([samples.shape[0], *self.widths], batch_norm=True)
        width = self.widths[-1]
        return Network(nn.Sequential(layers, nn.BatchNorm1d(width), nn.ReLU()), width, *sizes)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        change = self._change(samples)
        phases = []
        if isinstance(network, ImageNetwork):
            phases.append(self._pretext(network, samples))
        phases.append(self._adopt(network, samples, change))
        if self.self_label_epochs:
            phases.append(self._self_label(network, samples, change))
        return phases

    def _pretext(self, network: ImageNetwork, samples: Samples) -> Phase:
        """Features by which two changed views of an image are alike."""
        view = policy_for(self.augment, samples.shape)

        def contrast(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.batch)
            views = torch.cat([view(x, step.generator), view(x, step.generator)])
            z = step.gather(network.project(step.own(views)))
            return {"contrast": nt_xent(z, 1 / self.temperature)}

        learning = [*network.encoder.parameters(), *network.projection.parameters()]
        return single("pretext", learning, contrast, _adam(self.pretext_lr), n_rows=len(samples),
                      epochs=self.pretext_epochs, batch_size=self.pretext_batch_size)  # fmt: skip

    def _adopt(self, network: Network, samples: Samples, change: View) -> Phase:
        """Neighbours share a cluster; the best head is kept."""

        def start() -> None:
            if isinstance(network, ImageNetwork):
                found = neighbors_of(rows_of(samples, network.project), self.neighbors, metric="cosine")
            else:
                found = neighbors_of(self._compared(samples), self.neighbors, metric=self.metric)
            network.neighbors.copy_(found)

        def neighbor(rows: Tensor, generator: torch.Generator) -> Tensor:
            """One neighbour of each row."""
            which = torch.randint(self.neighbors, (len(rows), 1), generator=generator)
            return network.neighbors[rows.to(network.neighbors.device)].cpu().gather(1, which).flatten()

        def terms(log_p: Tensor) -> tuple[Tensor, Tensor]:
            """Both terms of every head, for rows and their neighbours behind them."""
            rows, near = log_p.chunk(2)
            return neighbor_consistency(rows, near), -self.entropy * marginal_entropy(rows.exp())

        def objective(step: Step) -> dict[str, Tensor]:
            x = samples.take(torch.cat([step.batch, neighbor(step.batch, step.generator)]))
            answers = network(step.own(change(x, step.generator)))
            consistency, balance = terms(step.gather(answers.log_softmax(2)))
            return {"consistency": consistency.mean(), "balance": balance.mean()}

        def end() -> None:
            rows = torch.randperm(len(samples))[:_COMPARED]
            both = torch.cat([rows, neighbor(rows, torch.default_generator)])
            answers = torch.cat([network(samples.take(part)) for part in both.split(self.self_label_batch_size)])
            consistency, balance = terms(answers.log_softmax(2))
            network.best.copy_((consistency + balance).argmin())

        learning = [*network.encoder.parameters(), *network.heads.parameters()]
        return single("clustering", learning, objective, _adam(self.lr), n_rows=len(samples), epochs=self.epochs,
                      batch_size=self.batch_size, start=start, end=end)  # fmt: skip

    def _self_label(self, network: Network, samples: Samples, change: View) -> Phase:
        """Rows that are certain teach what they are when they are changed."""

        def objective(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.batch)
            network.eval()  # as they will be predicted
            with torch.no_grad():
                p = step.gather(network.scores(step.own(x)).softmax(1))
            network.train()
            scores = step.gather(network.scores(step.own(change(x, step.generator))))
            return {"certain": confident_cross_entropy(scores, p, self.threshold)}

        learning = [*network.encoder.parameters(), *network.heads.parameters()]
        return single("self-labelling", learning, objective, _adam(self.self_label_lr), n_rows=len(samples),
                      epochs=self.self_label_epochs, batch_size=self.self_label_batch_size)  # fmt: skip

    def _compared(self, samples: Samples) -> Samples:
        """The rows whose neighbours are found: angles are those before the rows were shifted to mean 0."""
        as_given = copy(samples)
        as_given.scaling = samples.scaling if self.metric == "l2" else None
        return as_given

    def _change(self, samples: Samples) -> View:
        """What the paper's strong augmentation is for these rows."""
        if not samples.is_image:
            return lambda x, generator: corrupt(x, self.noise, self.dropout, generator)
        colored = self.strong == "auto" and samples.shape[0] == 3
        return policy_for("strong" if colored else self.strong, samples.shape)

    def _check(self) -> None:
        self._demand(
            counts=("neighbors", "heads", "pretext_batch_size", "batch_size"),
            batches=("self_label_batch_size",),
            epochs=("pretext_epochs", "epochs", "self_label_epochs"),
            widths=("widths",),
            above_zero=("temperature", "pretext_lr", "lr", "self_label_lr"),
            from_zero=("entropy", "noise", "dropout", "threshold"),
        )
        whole_number(len(self.widths), "number of widths")
        for name in ("dropout", "threshold"):
            if getattr(self, name) >= 1:
                raise InputError(f"{name} must be a number below 1, got {getattr(self, name)!r}.")

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return network.scores(x).softmax(1)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.encoder(x)


def corrupt(x: Tensor, noise: float, dropout: float, generator: torch.Generator) -> Tensor:
    """Vectors x [B, D] of mean 0 with normal noise, a share of their features set to 0.

    ``(x + noise · randn) · (rand ≥ dropout)``
    """
    moved = x + noise * torch.randn(x.shape, generator=generator).to(x.device)
    return moved * (torch.rand(x.shape, generator=generator) >= dropout).to(x.device)


def _adam(lr: float) -> Factory:
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, weight_decay=_WEIGHT_DECAY)
