"""Joint unsupervised learning of representations and clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.agglomeration import agglomerate, first_clusters, neighbor_graph
from pyfast_mmcl.clustering.codes import rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.clustering.votes import neighbor_vote
from pyfast_mmcl.losses.embedding import weighted_triplet
from pyfast_mmcl.models.autoencoder import mlp
from pyfast_mmcl.models.image_encoders import Backbone, image_encoder
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator

_VOTERS = 5


class Network(nn.Module):
    """An encoder with unit codes; the clusters [N] and codes [N, d] of the rows, and the width of their kernel."""

    labels: Tensor
    codes: Tensor
    width: Tensor

    def __init__(self, encoder: nn.Module, n_rows: int, n_clusters: int, code: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_clusters = n_clusters
        self.register_buffer("labels", torch.zeros(n_rows, dtype=torch.int64))
        self.register_buffer("codes", torch.zeros(n_rows, code))
        self.register_buffer("width", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.encoder(x).float(), dim=1)


class Triplets:
    """Draws, for rows, another row of the same cluster and a row of any other cluster; labels int64 [N], none empty."""

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels.cpu()
        self._sizes = self._labels.bincount()
        self._starts = self._sizes.cumsum(0) - self._sizes
        # Rows cluster by cluster, and the place of every row in that order.
        self._order = self._labels.argsort(stable=True)
        self._place = torch.empty_like(self._order)
        self._place[self._order] = torch.arange(len(self._order))

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """int64 [b] each; a row that is alone in its cluster stands for its like. There are two clusters at least."""
        here = self._labels[rows]
        size, start = self._sizes[here], self._starts[here]
        chance = torch.rand(2, len(rows), dtype=torch.float64, generator=generator)
        step = (chance[0] * (size - 1)).long() + 1
        alike = start + (self._place[rows] - start + step) % size
        # The other clusters are what follows in a circle.
        other = (start + size + (chance[1] * (len(self._labels) - size)).long()) % len(self._labels)
        return self._order[alike], self._order[other]


@estimator(
    family="structure",
    paper="Yang et al., Joint unsupervised learning of deep representations and image clusters, CVPR 2016",
)
class JULE(DeepEstimator):
    """Clusters merge pair by pair on a graph of neighbours, and in between the network learns what belongs together.

    Forward: ``clustering.agglomeration`` merges a share ``unroll`` of the clusters, then backward:
    ``relu(gamma · ‖z_i − z_j‖² − ‖z_i − z_k‖² + margin).mean()``, j of i's cluster, k of another; until K.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    widths : sequence of int, default (500, 500); code : int, default 160
        The encoder D – widths – code of vectors, whose codes have unit length (160: the paper's last layer).
    backbone : "small", "small_resnet", "resnet18", "resnet34" or a function channels → nn.Module, default "small"
        The encoder of images (``models.image_encoders``), followed by one linear layer to the code.
    neighbors : int, default 20; context : int, default 5
        K_s neighbours of a row in the graph, K_c neighbouring clusters of a cluster (table 1 of the paper).
    unroll : float, default 0.9
        The share η of the clusters that is merged before the network learns again (paper).
    epochs : int, default 5
        Epochs after every period of merging. (20 in the released settings, for a CNN and SGD: a fully connected network
        then has the many clusters of the first period by heart.)
    gamma : float, default 1.0; margin : float, default 0.2
        Of the triplets (released settings; the paper writes γ = 2).
    recluster : bool, default True
        Merge anew from the codes learnt (JULE-RC); False keeps the clusters of the way (JULE-SF).
    unit_rows : bool, default False
        Make the rows unit length for the first clustering, which takes place on rows, not on codes.
    batch_size : int, default 100; lr : float, default 1e-4 (Adam)
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    X is vectors [N, D] or images [N, C, H, W], bytes or floats in [0, 1].

    Deviations. The loss over all merges of a period is, as in the released code, a triplet loss over the clusters at
    its end; one is drawn per row and step, its third row from any other cluster (the paper takes clusters nearby, which
    drove parts of one class apart here). Affinities after a merge are exact, where the released code approximates
    them. Clusters without any affinity join the nearest mean.

    The labels of rows are the vote of the five nearest codes of the fitted rows, their own included: what makes
    clusters of any shape last for new rows.

    Attributes: ``labels_`` int64 [N]; ``network_``, ``history_`` (see DeepEstimator).

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Yang et al., CVPR 2016, equations 3, 8 and 14.
    """

    takes_images = None
    least_rows = 2
    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        widths: Sequence[int] = (500, 500),
        code: int = 160,
        backbone: Backbone = "small",
        neighbors: int = 20,
        context: int = 5,
        unroll: float = 0.9,
        epochs: int = 5,
        gamma: float = 1.0,
        margin: float = 0.2,
        recluster: bool = True,
        unit_rows: bool = False,
        batch_size: int = 100,
        lr: float = 1e-4,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.widths = widths
        self.code = code
        self.backbone = backbone
        self.neighbors = neighbors
        self.context = context
        self.unroll = unroll
        self.epochs = epochs
        self.gamma = gamma
        self.margin = margin
        self.recluster = recluster
        self.unit_rows = unit_rows
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._demand(
            counts=("code", "neighbors", "context", "epochs", "batch_size"),
            widths=("widths",),
            above_zero=("unroll", "gamma", "lr"),
            from_zero=("margin",),
        )
        if self.unroll > 1:
            raise InputError(f"unroll must be a share above 0 and up to 1, got {self.unroll!r}.")
        if samples.is_image:
            features, width = image_encoder(self.backbone, samples.shape)
            encoder = nn.Sequential(features, nn.Linear(width, self.code))
        else:
            encoder = mlp([samples.shape[0], *self.widths, self.code])
        return Network(encoder, len(samples), K, self.code)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        drawn: list[Triplets] = []

        def contrast(step: Step) -> dict[str, Tensor]:
            if not drawn:
                drawn.append(Triplets(network.labels))
            alike, other = map(step.own, drawn[0].draw(step.batch, step.generator))
            z = network(samples.take(torch.cat([step.rows, alike, other]))).chunk(3)
            return {"triplets": weighted_triplet(*z, gamma=self.gamma, margin=self.margin)}

        def merge(done: int) -> bool:
            drawn.clear()
            if done and int(network.labels.max()) < K:
                return True
            x = rows_of(samples, network) if done else self._rows(samples)
            labels = self._merged(x, network.labels if done else None, K)
            network.labels.copy_(labels)
            return int(labels.max()) == 0

        def end() -> None:
            network.codes.copy_(rows_of(samples, network))
            network.width.fill_(neighbor_graph(network.codes, self.neighbors).width)
            if self.recluster:
                network.labels.copy_(self._merged(network.codes, None, K, unroll=1.0))

        phase = single("merging", network.encoder.parameters(), contrast, optimizer_factory("adam", self.lr),
                       n_rows=len(samples), epochs=self.epochs * self._periods(len(samples), K),
                       batch_size=self.batch_size, watch=merge, end=end)  # fmt: skip
        return [replace(phase, watch_every=self.epochs * phase.n_batches)]

    def _rows(self, samples: Samples) -> Tensor:
        rows = rows_of(samples, lambda x: x.flatten(1))
        return normalize(rows, dim=1) if self.unit_rows else rows

    def _merged(self, x: Tensor, labels: Tensor | None, K: int, unroll: float | None = None) -> Tensor:
        """Clusters int64 [N] on the CPU after a share ``unroll`` of them has merged; from the first ones for None."""
        graph = neighbor_graph(x, self.neighbors)
        start = first_clusters(graph.nearest) if labels is None else labels.cpu().numpy()
        if labels is None and start.max() + 1 < K:
            start = np.arange(len(x))
        C = int(start.max()) + 1
        target = max(K, C - math.ceil((self.unroll if unroll is None else unroll) * C))
        return torch.from_numpy(agglomerate(graph.W, start, x.cpu().numpy(), target, context=self.context))

    def _periods(self, N: int, K: int) -> int:
        """Periods at most: from N clusters to K."""
        periods = 1
        while N - math.ceil(self.unroll * N) > K:
            N, periods = N - math.ceil(self.unroll * N), periods + 1
        return periods

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        K = network.n_clusters
        return neighbor_vote(network(x), network.codes, network.labels, K, voters=_VOTERS, width=network.width)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network(x)
