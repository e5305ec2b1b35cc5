"""ClusterGAN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from pyfast_mmcl._errors import unknown_name
from pyfast_mmcl.clustering.codes import kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.adversarial import gradient_penalty, wasserstein
from pyfast_mmcl.losses.clustering import nearest_softmax
from pyfast_mmcl.models.adversarial import Generator, reader
from pyfast_mmcl.train.optimizers import Factory
from pyfast_mmcl.train.phases import Phase, Player, Step
from pyfast_mmcl.train.registry import estimator

_ASSIGNMENTS = ("k-means", "argmax")
_SPREAD = 0.1  # standard deviation of the continuous latent numbers (§3.1)
_PENALTY = 10.0  # weight of the gradient penalty (Gulrajani et al., 2017)
_BETAS = (0.5, 0.9)


class Network(nn.Module):
    """Generator, encoder and critic, and the centres of k-means on the encoder's answers."""

    centers: Tensor

    def __init__(self, shape: Sequence[int], latent: int, n_clusters: int, widths: Sequence[int], filters: int) -> None:
        super().__init__()
        self.latent, self.n_clusters = latent, n_clusters
        self.generator = Generator(latent + n_clusters, shape, widths, filters)
        self.encoder = reader(shape, latent + n_clusters, widths, filters)
        self.critic = reader(shape, 1, widths, filters)
        self.register_buffer("centers", torch.zeros(n_clusters, latent + n_clusters))

    def draw(self, B: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Latent rows [B, latent + K]: normal numbers and a cluster as one of K ones; and the clusters int64 [B]."""
        numbers = _SPREAD * torch.randn(B, self.latent, device=device)
        cluster = torch.randint(self.n_clusters, (B,), device=device)
        return torch.cat([numbers, one_hot(cluster, self.n_clusters).to(numbers)], dim=1), cluster

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The latent numbers [b, latent] of rows and the scores of their clusters [b, K]."""
        numbers, scores = self.encoder(x).split([self.latent, self.n_clusters], dim=1)
        return numbers, scores

    def codes(self, x: Tensor) -> Tensor:
        """The encoder's answer as a latent row [b, latent + K]."""
        numbers, scores = self.encode(x)
        return torch.cat([numbers, scores.softmax(1)], dim=1)

    def judge(self, x: Tensor) -> Tensor:
        """The critic's scores [b]."""
        return self.critic(x).flatten()


@estimator(
    family="distribution",
    paper="Mukherjee et al., ClusterGAN: latent space clustering in generative adversarial networks, AAAI 2019",
)
class ClusterGAN(DeepEstimator):
    """A generator whose latent rows are a cluster and small noise, and an encoder that finds both again.

    ``−critic(G(z)) + beta_n · mse(E_n(G(z)), z_n) + beta_c · cross_entropy(E_c(G(z)), z_c)`` against
    ``critic(G(z)) − critic(x) + 10 · (‖∇critic‖ − 1)²``; then k-means on E(x).

    X is vectors [N, D], for fully connected networks, or images [N, C, H, W] from 4 × 4 pixels, for convolutions.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    latent : int, default 30
        Normal numbers beside the cluster (paper: 30 for MNIST).
    beta_n, beta_c : float, default 10.0 and 10.0
        Weights of finding the numbers and the cluster (§4).
    critic_steps : int, default 5
        Steps of the critic, each on other rows, for one of the generator and the encoder. Fewer leave time for more of
        the generator's: 1 with lr=5e-4 got further in the same time on 10,000 digits, and less far on 1,797.
    widths : sequence of int, default (256, 256)
        Hidden layers of the networks of vectors.
    filters : int, default 64
        Of the first convolution of images; the second has twice, the layer behind them 16 times as many (DCGAN's).
    assignment : "k-means" or "argmax", default "k-means"
        Clusters by k-means on E(x), its cluster part as probabilities, as in the paper, or the most probable one.
    n_init : int, default 20
        Runs of that k-means.
    epochs : int, default 200; batch_size : int, default 64; lr : float, default 1e-4 (Adam with betas 0.5 and 0.9)
        Small sets need more epochs or a larger rate: the paper's MNIST sees 900 steps in each epoch.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    Attributes: ``labels_`` int64 [N]; ``cluster_centers_`` [K, latent + K] ("k-means"); ``network_``, ``history_`` (see
    DeepEstimator). ``transform`` gives E(x) [N, latent + K].

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Mukherjee et al., AAAI 2019, equation 5 and §3; Gulrajani et al., NIPS 2017.
    """

    takes_images = None
    least_rows = 2
    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        latent: int = 30,
        beta_n: float = 10.0,
        beta_c: float = 10.0,
        critic_steps: int = 5,
        widths: Sequence[int] = (256, 256),
        filters: int = 64,
        assignment: str = "k-means",
        n_init: int = 20,
        epochs: int = 200,
        batch_size: int = 64,
        lr: float = 1e-4,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.latent = latent
        self.beta_n = beta_n
        self.beta_c = beta_c
        self.critic_steps = critic_steps
        self.widths = widths
        self.filters = filters
        self.assignment = assignment
        self.n_init = n_init
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> Network:
        self._check()
        return Network(samples.shape, self.latent, K, self.widths, self.filters)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        def judge(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            with torch.no_grad():
                fake = network.generator(network.draw(len(x), x.device)[0])
            share = torch.rand(len(x), device=x.device)
            return {
                "distance": wasserstein(network.judge(x), network.judge(fake)),
                "slope": _PENALTY * gradient_penalty(network.judge, x, fake, share),
            }

        def deceive(step: Step) -> dict[str, Tensor]:
            z, cluster = network.draw(len(step.rows), samples.device)
            fake = network.generator(z)
            numbers, scores = network.encode(fake)
            return {
                "deception": -network.judge(fake).mean(),
                "numbers": self.beta_n * mse_loss(numbers, z[:, : self.latent]),
                "cluster": self.beta_c * cross_entropy(scores, cluster),
            }

        def end() -> None:
            if self.assignment == "k-means":
                network.centers.copy_(kmeans_of(rows_of(samples, network.codes), K, n_init=self.n_init).centers)

        making = [*network.generator.parameters(), *network.encoder.parameters()]
        critic = Player(list(network.critic.parameters()), judge, self._adam(), self.critic_steps, name="critic")
        maker = Player(making, deceive, self._adam(), name="generator")
        players = (critic, maker)
        return [Phase("adversarial", players, len(samples), self.epochs, self.batch_size, end=end)]

    def _adam(self) -> Factory:
        return lambda parameters: torch.optim.Adam(parameters, lr=self.lr, betas=_BETAS)

    def _check(self) -> None:
        if self.assignment not in _ASSIGNMENTS:
            raise unknown_name("assignment", self.assignment, _ASSIGNMENTS)
        self._demand(
            counts=("latent", "critic_steps", "filters", "n_init"),
            batches=("batch_size",),
            epochs=("epochs",),
            widths=("widths",),
            above_zero=("lr",),
            from_zero=("beta_n", "beta_c"),
        )

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        if self.assignment == "k-means":
            return nearest_softmax(network.codes(x), network.centers)
        return network.encode(x)[1].softmax(1)

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.codes(x)

    def _keep(self, samples: Samples) -> None:
        if self.assignment == "k-means":
            self.cluster_centers_ = samples.give(self.network_.centers)
