"""Information maximising self-augmented training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.neighbors import nearest_rows
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.information import assignment_divergence, conditional_entropy, marginal_entropy
from pyfast_mmcl.losses.virtual_adversarial import virtual_adversarial
from pyfast_mmcl.models.autoencoder import mlp
from pyfast_mmcl.models.statistics import statistics_kept
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator


class Network(nn.Module):
    """Scores of K clusters, and how far each row may be moved."""

    radius: Tensor

    def __init__(self, inputs: int, widths: Sequence[int], n_clusters: int, n_rows: int) -> None:
        super().__init__()
        self.layers = mlp([inputs, *widths, n_clusters], batch_norm=True)
        self.register_buffer("radius", torch.zeros(n_rows))

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(self.layers(x), dim=1)


@estimator(
    family="augmentation",
    paper="Hu et al., Learning discrete representations via information maximizing self-augmented training, ICML 2017",
)
class IMSAT(DeepEstimator):
    """Assignments that tell clusters apart, weigh them alike, and stay as they are when rows move a little.

    ``KL(p(x) ‖ p(x + r)).mean() − lam · (mu · H(p.mean(0)) − H(p).mean())``, r the virtual adversarial perturbation.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    widths : sequence of int, default (1200, 1200)
        Hidden layers, each with batch normalisation and ReLU (§4.1).
    lam, mu : float, default 0.1 and 4.0
        Weights of the information and of its first entropy (§4.1). The paper bounds H(p.mean(0)) from below; adding it
        with the weight mu is what its implementation does.
    radius : float, default 0.25; neighbors : int, default 10
        Rows are moved by ``radius`` times the distance to their 10th nearest neighbour (§4.1 of the paper).
    xi : float, default 10.0; iterations : int, default 1
        Of the power iteration.
    epochs : int, default 50; batch_size : int, default 250; lr : float, default 2e-3 (Adam)
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    Attributes: ``labels_`` int64 [N], ``network_``, ``history_`` (see DeepEstimator). ``transform`` gives the
    logarithms of the assignments [N, K].

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Hu et al., ICML 2017, equations 6 to 11.
    """

    least_rows = 2

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        widths: Sequence[int] = (1200, 1200),
        lam: float = 0.1,
        mu: float = 4.0,
        radius: float = 0.25,
        neighbors: int = 10,
        xi: float = 10.0,
        iterations: int = 1,
        epochs: int = 50,
        batch_size: int = 250,
        lr: float = 2e-3,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.widths = widths
        self.lam = lam
        self.mu = mu
        self.radius = radius
        self.neighbors = neighbors
        self.xi = xi
        self.iterations = iterations
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._check()
        return Network(samples.shape[0], self.widths, K, len(samples))

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        def start() -> None:
            network.radius.copy_(self.radius * neighbor_distance(samples, self.neighbors))

        def perturbed(x: Tensor) -> Tensor:
            with statistics_kept(network):
                return network(x)

        def objective(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            log_p = network(x)
            radius = network.radius[step.rows.to(x.device)]
            moved = x + virtual_adversarial(perturbed, x, log_p, radius, xi=self.xi, iterations=self.iterations)
            p = step.gather(log_p.exp())
            return {
                "invariance": assignment_divergence(log_p.detach(), perturbed(moved)),
                "balance": -self.lam * self.mu * marginal_entropy(p),
                "certainty": self.lam * conditional_entropy(p),
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
                start=start,
            )
        ]

    def _check(self) -> None:
        self._demand(
            counts=("neighbors", "iterations"),
            batches=("batch_size",),
            epochs=("epochs",),
            widths=("widths",),
            above_zero=("xi", "lr"),
            from_zero=("lam", "mu", "radius"),
        )

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return network(x).exp()

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network(x)


def neighbor_distance(samples: Samples, k: int) -> Tensor:
    """Distance [N] of every row to its k-th nearest other row, or to the farthest where there are fewer."""
    square, _ = nearest_rows(samples, k)
    return square[:, -1].clamp_min(0).sqrt() if len(samples) > 1 else torch.zeros(1, device=square.device)
