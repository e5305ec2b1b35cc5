"""Regularised information maximisation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import log_softmax

from pyfast_mmcl.clustering.codes import kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.losses.information import conditional_entropy, marginal_entropy
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator


@estimator(
    family="augmentation",
    paper="Gomes et al., Discriminative clustering by regularized information maximization, NIPS 2010",
)
class RIM(DeepEstimator):
    """A multi-logistic model whose clusters are told apart, weigh alike and have large margins.

    ``p = softmax(x @ W.T + b)``; maximise ``H(p.mean(0)) − H(p).mean() − lam · (W²).sum()``.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    lam : float, default 0.01
        Weight of the regulariser (§3; the paper chooses it per set). The rows are scaled to variance 1 first.
    epochs : int, default 100; batch_size : int, default 256; lr : float, default 0.01 (Adam)
        The paper optimises by L-BFGS over all rows; batches serve sets of any size.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    W starts from the centres c of a k-means (``W = c, b = −‖c‖²/2``, which ranks clusters by distance), as in §4.2.

    Attributes: ``labels_`` int64 [N], ``network_``, ``history_`` (see DeepEstimator). ``transform`` gives the
    logarithms of the assignments [N, K].

    Raises InputError for bad parameters or input; a ConvergenceWarning when fewer than K clusters were found.

    Reference: Gomes et al., NIPS 2010, equations 3 to 6.
    """

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        lam: float = 0.01,
        epochs: int = 100,
        batch_size: int = 256,
        lr: float = 0.01,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.lam = lam
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.training = training

    def _network(self, samples: Samples, K: int) -> nn.Linear:
        self._demand(counts=("batch_size",), epochs=("epochs",), above_zero=("lr",), from_zero=("lam",))
        return nn.Linear(samples.shape[0], K)

    def _phases(self, network: nn.Linear, samples: Samples, K: int) -> list[Phase]:
        def start() -> None:
            centers = kmeans_of(rows_of(samples), K, n_init=1).centers.float()
            network.weight.copy_(centers)
            network.bias.copy_(-centers.square().sum(1) / 2)

        def objective(step: Step) -> dict[str, Tensor]:
            p = step.gather(network(samples.take(step.rows)).softmax(1))
            return {
                "balance": -marginal_entropy(p),
                "certainty": conditional_entropy(p),
                "margin": self.lam * network.weight.square().sum(),
            }

        how: dict[str, Any] = {"n_rows": len(samples), "epochs": self.epochs, "batch_size": self.batch_size}
        adam = optimizer_factory("adam", self.lr)
        return [single("clustering", network.parameters(), objective, adam, start=start, **how)]

    def _assign(self, network: nn.Linear, x: Tensor) -> Tensor:
        return network(x).softmax(1)

    def _codes(self, network: nn.Linear, x: Tensor) -> Tensor:
        return log_softmax(network(x), dim=1)
