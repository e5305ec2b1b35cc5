"""Deep subspace clustering with a sparsity prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from pyfast_mmcl._errors import unknown_name
from pyfast_mmcl.clustering.codes import kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.neighbors import neighbors_of
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.clustering.self_representation import representation_graph, sparse_codes, spectral_rows
from pyfast_mmcl.clustering.votes import neighbor_vote
from pyfast_mmcl.losses.clustering import nearest_softmax
from pyfast_mmcl.models.autoencoder import WIDTHS, MLPAutoencoder
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator

CLUSTER_BY = ("graph", "codes")
_VOTERS = 5


class Network(nn.Module):
    """An autoencoder, the candidates [N, m] of the rows with their coefficients, codes [N, d], and what clusters them.

    Clusters are labels [N] of the rows where the graph makes them, else centres [K, d].
    """

    candidates: Tensor
    coefficients: Tensor
    norms: Tensor
    codes: Tensor
    width: Tensor
    labels: Tensor
    centers: Tensor

    def __init__(self, autoencoder: MLPAutoencoder, n_rows: int, n_clusters: int, code: int, m: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.n_clusters = n_clusters
        self.register_buffer("candidates", torch.zeros(n_rows, m, dtype=torch.int64))
        self.register_buffer("coefficients", torch.zeros(n_rows, m))
        self.register_buffer("norms", torch.zeros(n_rows))
        self.register_buffer("codes", torch.zeros(n_rows, code))
        self.register_buffer("width", torch.zeros(()))
        self.register_buffer("labels", torch.zeros(n_rows, dtype=torch.int64))
        self.register_buffer("centers", torch.zeros(n_clusters, code))

    def represented(self, rows: Tensor) -> Tensor:
        """``Σ_j c_ij |x_i| / |x_j| z_j`` [b, d] of the codes as they were last: c is about rows of unit length."""
        others = self.candidates[rows]
        scale = self.norms[rows, None] / self.norms[others].clamp_min(torch.finfo(self.norms.dtype).tiny)
        return torch.einsum("bm,bmd->bd", self.coefficients[rows] * scale, self.codes[others])


@estimator(family="structure", paper="Peng et al., Deep subspace clustering with sparsity prior, IJCAI 2016")
class PARTY(DeepEstimator):
    """Rows are sparse combinations of other rows; an autoencoder learns codes that are the same combinations.

    ``C = argmin ½ ‖x_i − Σ_j c_ij x_j‖² + lam · ‖C‖₁`` on unit rows, then ``mse(decode(z), x) + keep · ‖z_i − Σ_j c_ij
    |x_i| / |x_j| z_j‖²`` (means over rows); clusters by the graph ``|C| + |C|.T`` or by k-means on z.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    code : int, default 10; widths : sequence of int, default (500, 500, 2000)
        The autoencoder D – widths – code. (The paper: 300 – 200 – 150 – 200 – 300 on features reduced by PCA.)
    candidates : int, default 20; lam : float, default 0.01
        The nearest rows that a row may be made of, and the price of coefficients. The paper lets all rows take part
        in every other, N² coefficients; of near rows, N · candidates.
    keep : float, default 0.1; weight_decay : float, default 1e-5
        Weights λ1 of the sparsity prior and λ2 of the squared weights. The paper tunes them; these are ours.
    cluster_by : "graph" or "codes", default "graph"
        Spectral clustering of the rows, where new rows get the vote of the five nearest codes; or k-means on codes.
    epochs : int, default 50; batch_size : int, default 256; lr : float, default 1e-3 (Adam)
    n_init : int, default 20
        Runs of k-means.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    The codes z_j of the prior are those of the start of the epoch, and gradients go through z_i alone: a step costs no
    more than one of the autoencoder. (The paper holds C fixed as well, but moves all codes at once.)

    Attributes: ``labels_`` int64 [N]; ``network_``, ``history_`` (see DeepEstimator).

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Peng et al., IJCAI 2016, §3; spectral clustering: Ng et al., NIPS 2001.
    """

    least_rows = 2
    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        code: int = 10,
        widths: Sequence[int] = WIDTHS,
        candidates: int = 20,
        lam: float = 0.01,
        keep: float = 0.1,
        weight_decay: float = 1e-5,
        cluster_by: str = "graph",
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
        self.candidates = candidates
        self.lam = lam
        self.keep = keep
        self.weight_decay = weight_decay
        self.cluster_by = cluster_by
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.n_init = n_init
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._demand(
            counts=("code", "candidates", "batch_size", "n_init"),
            epochs=("epochs",),
            widths=("widths",),
            above_zero=("lr",),
            from_zero=("lam", "keep", "weight_decay"),
        )
        if self.cluster_by not in CLUSTER_BY:
            raise unknown_name("cluster_by", self.cluster_by, CLUSTER_BY)
        autoencoder = MLPAutoencoder(samples.shape[0], self.code, self.widths)
        return Network(autoencoder, len(samples), K, self.code, min(self.candidates, len(samples) - 1))

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        autoencoder = network.autoencoder

        def represent() -> None:
            rows = rows_of(samples)
            network.norms.copy_(rows.norm(dim=1))
            rows = normalize(rows, dim=1)
            network.candidates.copy_(neighbors_of(rows, network.candidates.shape[1]))
            network.coefficients.copy_(sparse_codes(rows, network.candidates, lam=self.lam))

        def refresh(done: int) -> None:
            network.codes.copy_(rows_of(samples, autoencoder.encode))

        def embed(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            z, answer = autoencoder(x)
            kept = (z - network.represented(step.rows.to(z.device))).square().sum(1).mean()
            return {"reconstruction": mse_loss(answer, x), "prior": self.keep * kept}

        def end() -> None:
            refresh(0)
            if self.cluster_by == "codes":
                network.centers.copy_(kmeans_of(network.codes, K, n_init=self.n_init).centers)
                return
            graph = representation_graph(network.candidates, network.coefficients)
            network.labels.copy_(kmeans_of(spectral_rows(graph, K), K, n_init=self.n_init).labels)
            near = network.codes[network.candidates] - network.codes[:, None]
            network.width.fill_(float(near.square().sum(2).mean()))

        def adam(parameters: Any) -> torch.optim.Optimizer:
            return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)

        how: dict[str, Any] = {"n_rows": len(samples), "batch_size": self.batch_size, "epochs": self.epochs}
        return [
            single("embedding", autoencoder.parameters(), embed, adam, start=represent, watch=refresh, end=end, **how)
        ]

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        z = network.autoencoder.encode(x)
        if self.cluster_by == "codes":
            return nearest_softmax(z, network.centers)
        K = network.n_clusters
        return neighbor_vote(z, network.codes, network.labels, K, voters=_VOTERS, width=network.width)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.autoencoder.encode(x)
