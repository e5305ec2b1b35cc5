"""Variational deep embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from pyfast_mmcl._errors import unknown_name
from pyfast_mmcl.clustering.base import whole_number
from pyfast_mmcl.clustering.codes import rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.mixture import mixture_divergence, responsibilities
from pyfast_mmcl.models.autoencoder import WIDTHS, mlp
from pyfast_mmcl.models.linear import Linear
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator

_LIKELIHOODS = ("gaussian", "bernoulli")
# Variances of a mixture component stay above this: a component of equal codes would have none.
_LEAST_VARIANCE = 1e-4
# Of a component's variance: how far a code is unsure where clustering starts.
_FIRST_VARIANCE = 0.1
_SEEDS = 2**31 - 1


class Network(nn.Module):
    """Encoder of mean and log-variance, decoder, and a mixture of K Gaussians in code space."""

    def __init__(self, inputs: int, widths: Sequence[int], code: int, n_clusters: int) -> None:
        super().__init__()
        *below, last = widths
        self.encoder = nn.Sequential(mlp([inputs, *below, last]), nn.ReLU())
        self.mean, self.log_variance = Linear(last, code), Linear(last, code)
        self.decoder = mlp([code, *reversed(widths), inputs])
        self.weight_scores = nn.Parameter(torch.zeros(n_clusters))
        self.centers = nn.Parameter(torch.zeros(n_clusters, code))
        self.center_log_variance = nn.Parameter(torch.zeros(n_clusters, code))

    def mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """log π [K], means and log-variances [K, d]."""
        return self.weight_scores.log_softmax(0), self.centers, self.center_log_variance

    def autoencoder(self) -> list[nn.Parameter]:
        """Weights of what pretraining trains."""
        return [p for part in (self.encoder, self.mean, self.decoder) for p in part.parameters()]


@estimator(
    family="distribution",
    paper="Jiang et al., Variational deep embedding: an unsupervised and generative approach to clustering, IJCAI 2017",
)
class VaDE(DeepEstimator):
    """A variational autoencoder whose prior is a mixture of Gaussians: rows belong to the component they come from.

    ``z = μ(x) + σ(x) ε``; minimise ``−log p(x | z) + KL(q(z, c | x) ‖ p(z, c))`` with ``q(c | x) = p(c | z)``.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    code : int, default 10; widths : sequence of int, default (500, 500, 2000)
        Encoder D – widths – code, as in §4.3 of the paper.
    likelihood : "gaussian" or "bernoulli", default "gaussian"
        Of the rows: normal with variance 1 around the decoder's answer, for rows scaled to mean 0 and variance 1; or
        Bernoulli with its probabilities, for rows scaled into [0, 1], as the paper has it for images.
    pretrain_epochs : int, default 50
        Epochs of plain reconstruction; a mixture fitted to the codes then starts the prior, and every code with a tenth
        of a component's variance. (The paper pretrains layer by layer, and draws the weights of the variance.)
    beta : float, default 1
        Weight of the divergence; 1 is the paper's bound. Rows of few features may say too little to pay for it, so that
        their codes collapse into the prior: a smaller weight keeps them in use (Higgins et al., *beta-VAE*, ICLR 2017).
    epochs : int, default 300; batch_size : int, default 100
    lr : float, default 5e-4 (Adam, times 0.9 every 10 epochs)
        The paper has 2e-3, after layer-by-layer pretraining; after the one here that rate undoes within an epoch what
        pretraining has found, and clusters are lost.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    Attributes: ``labels_`` int64 [N]; ``cluster_centers_`` [K, code]; ``network_``, ``history_`` (see DeepEstimator).
    ``predict_proba`` gives p(c | z) at the mean code.

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Jiang et al., IJCAI 2017, equations 9 to 16.
    """

    least_rows = 2  # a mixture is fitted to the codes
    network_: Network

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        code: int = 10,
        widths: Sequence[int] = WIDTHS,
        likelihood: str = "gaussian",
        beta: float = 1.0,
        pretrain_epochs: int = 50,
        epochs: int = 300,
        batch_size: int = 100,
        lr: float = 5e-4,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.code = code
        self.widths = widths
        self.likelihood = likelihood
        self.beta = beta
        self.pretrain_epochs = pretrain_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.training = training

    def _scale(self, samples: Samples) -> tuple[Tensor, float]:
        return samples.limits() if self.likelihood == "bernoulli" else samples.measure()

    def _network(self, samples: Samples, K: int) -> Network:
        self._check()
        return Network(samples.shape[0], self.widths, self.code, K)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        def pretrain(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            answer = network.decoder(network.mean(network.encoder(x)))
            if self.likelihood == "bernoulli":
                return {"reconstruction": binary_cross_entropy_with_logits(answer, x)}
            return {"reconstruction": mse_loss(answer, x)}

        def start() -> None:
            codes = rows_of(samples, lambda x: network.mean(network.encoder(x))).cpu().numpy()
            seed = int(torch.randint(_SEEDS, ()))
            fitted = GaussianMixture(K, covariance_type="diag", reg_covar=_LEAST_VARIANCE, random_state=seed).fit(codes)
            network.weight_scores.copy_(torch.from_numpy(fitted.weights_).log())
            network.centers.copy_(torch.from_numpy(fitted.means_))
            network.center_log_variance.copy_(torch.from_numpy(fitted.covariances_).log())
            # Codes have whatever scale pretraining gave them: drawn weights would bury their clusters under noise.
            within = torch.from_numpy(fitted.weights_ @ fitted.covariances_)
            network.log_variance.weight.zero_()
            network.log_variance.bias.copy_((_FIRST_VARIANCE * within).log())

        def cluster(step: Step) -> dict[str, Tensor]:
            x = samples.take(step.rows)
            hidden = network.encoder(x)
            mean, log_variance = network.mean(hidden), network.log_variance(hidden)
            z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            mixture = network.mixture()
            gamma = responsibilities(z, *mixture)
            answer = network.decoder(z)
            return {
                "reconstruction": self._reconstruction(answer, x),
                "divergence": self.beta * mixture_divergence(gamma, mean, log_variance, *mixture).mean(),
            }

        how: dict[str, Any] = {"n_rows": len(samples), "batch_size": self.batch_size}
        adam = optimizer_factory("adam", self.lr)
        return [
            single("pretraining", network.autoencoder(), pretrain, optimizer_factory("adam", 1e-3),
                   epochs=self.pretrain_epochs, **how),
            single("clustering", network.parameters(), cluster, adam, epochs=self.epochs, start=start,
                   schedule=lambda done: 0.9 ** int(done * self.epochs / 10 + 1e-9), **how),
        ]  # fmt: skip

    def _reconstruction(self, answer: Tensor, x: Tensor) -> Tensor:
        """−log p(x | z), the mean over rows of the sum over features, without constants."""
        if self.likelihood == "bernoulli":
            return binary_cross_entropy_with_logits(answer, x, reduction="none").sum(1).mean()
        return (answer - x).square().sum(1).mean() / 2

    def _check(self) -> None:
        if self.likelihood not in _LIKELIHOODS:
            raise unknown_name("likelihood", self.likelihood, _LIKELIHOODS)
        self._demand(
            counts=("code", "batch_size"),
            epochs=("pretrain_epochs", "epochs"),
            widths=("widths",),
            above_zero=("lr",),
            from_zero=("beta",),
        )
        whole_number(len(self.widths), "number of widths")

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        return responsibilities(self._codes(network, x), *network.mixture())

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.mean(network.encoder(x))

    def _keep(self, samples: Samples) -> None:
        self.cluster_centers_ = samples.give(self.network_.centers.detach())
