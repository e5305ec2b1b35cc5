"""Text-aided clustering: the nouns of a dictionary tell images apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.base import whole_number
from pyfast_mmcl.clustering.codes import kmeans_of, rows_of
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.neighbors import neighbors_of
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.clustering.text_bank import TextBank, read_bank
from pyfast_mmcl.clustering.text_space import cluster_means, n_image_centers, select_nouns
from pyfast_mmcl.losses.clustering import nearest_softmax
from pyfast_mmcl.losses.cross_modal import counterparts, mutual_distillation
from pyfast_mmcl.models.cluster_head import ClusterHead
from pyfast_mmcl.train.isolate import isolated
from pyfast_mmcl.train.phases import Phase, Step, single
from pyfast_mmcl.train.registry import estimator

# From this many clusters on the paper trains longer, in larger batches and with a higher temperature.
_MANY = 101
_NAMES = 5  # nouns kept in mind for each cluster


class Network(nn.Module):
    """The nouns that were chosen [G·γ, d], and centres [K, 2d] of images beside texts or a head for each."""

    nouns: Tensor
    noun_index: Tensor

    def __init__(
        self, features: int, n_clusters: int, n_nouns: int, temperature: float, heads: bool, width: int
    ) -> None:
        super().__init__()
        self.temperature = temperature
        # A centre that no noun goes to leaves places empty: number −1.
        self.register_buffer("nouns", torch.zeros(n_nouns, features))
        self.register_buffer("noun_index", torch.full((n_nouns,), -1))
        self.centers = nn.Parameter(torch.zeros(n_clusters, 2 * features), requires_grad=False)
        self.image_head = ClusterHead(features, width, n_clusters) if heads else None
        self.text_head = ClusterHead(features, width, n_clusters) if heads else None

    def choose(self, bank: TextBank, centers: Tensor, per_center: int) -> None:
        """Keep the nouns that say most about image centres [G, d]."""
        chosen = select_nouns(bank.embeddings, centers, per_center).flatten()
        self.noun_index.copy_(chosen)
        self.nouns.copy_(bank.embeddings[chosen.cpu().clamp_min(0)])

    def counterpart(self, v: Tensor) -> Tensor:
        """What the nouns say of unit rows v [b, d]: unit rows [b, d]."""
        return counterparts(v, self.nouns[self.noun_index >= 0], self.temperature)

    def both(self, x: Tensor) -> Tensor:
        """Image and text side by side, unit rows [b, 2d]."""
        v = normalize(x, dim=1)
        return normalize(torch.cat([v, self.counterpart(v)], dim=1), dim=1)


@estimator(family="external", paper="Li et al., Image clustering with external guidance, ICML 2024")
class TAC(DeepEstimator):
    """Images are told apart by nouns: each gets a text of its own, and images and texts teach each other to cluster.

    ``t = unit(softmax(v @ nouns.T / temperature) @ nouns)``; training-free: spherical k-means of ``cat([v, t], 1)``;
    else two heads p(v), q(t) minimise ``losses.cross_modal.mutual_distillation`` over neighbours of either kind.

    X are image embeddings [N, d] of a CLIP; they are divided by their norms. The nouns are chosen among all of a bank:
    those that are classified most surely into one of M centres of the images.

    Parameters
    ----------
    n_clusters : int, or str ("auto", …: see KMeans), default 8
    text_bank : TextBank, path of a saved one, array [M, d], or function
        Embeddings of nouns by the text tower of the same CLIP (``clustering.text_bank.embed_nouns``; WordNet's nouns by
        ``data.wordnet``). A function ``d → bank`` is called in fit, for banks made when they are needed.
    names : sequence of M str, default None
        What the embeddings of an array are called.
    training_free : bool, default False
        K-means on images and texts, without the heads.
    width : int, default None
        Hidden units of a head; None is d, as in the paper's implementation.
    rows_per_center : int, default 300; nouns_per_center : int, default 5
        Images that a centre stands for when nouns are chosen (three centres for each cluster where those are smaller),
        and nouns chosen for each (§3.1).
    temperature : float, default 0.005
        Of the softmax over nouns (§3.1).
    neighbors : int, default 50
        Nearest rows, of which one at random takes part in a step (§3.2).
    balance : float, default 5.0
        Weight of the entropy of the clusters' sizes (§3.2).
    contrast_temperature, epochs, batch_size : default None
        0.5, 20 and 512; from 101 clusters on 5.0, 100 and 8,192 (the paper's implementation). Small sets need more
        epochs: the paper's have 3,760 to 1,281,167 images.
    lr : float, default 1e-3
        Adam with betas 0.9 and 0.99 (the paper's implementation).
    n_init : int, default 20
        Runs of the k-means of the training-free form; image centres take half as many.
    random_state : None, int, numpy Generator or RandomState
    training : Training, default Training()

    Attributes
    ----------
    labels_ : int64 [N]; of the image head, or of the nearest centre
    nouns_ : int64 [S], the chosen nouns' numbers in the bank
    cluster_nouns_ : int64 [K, 5], the chosen nouns nearest to the mean text of each cluster, −1 where there is none
    network_, history_ : see DeepEstimator

    ``transform`` gives images and texts side by side [N, 2d] (training-free), or logarithms of the assignments [N, K].
    While the heads train, images, texts and neighbours of all rows lie in memory: 8 · N · (d + 2 · neighbors) bytes.

    Raises InputError for bad parameters or input, or a bank of another width than X; a ConvergenceWarning when fewer
    than K clusters were found.

    Reference: Li et al., ICML 2024, §3.1 and §3.2.

    Example, for a clip of ``models.clip_load.load_clip`` and the embeddings X of its image tower::

        bank = embed_nouns(clip, noun_names(read_synsets("WordNet-3.0/dict")), cache_dir="banks")
        TAC(10, text_bank=bank, random_state=0).fit(X).cluster_names()
    """

    least_rows = 2
    network_: Network
    _noun_names: dict[int, str]
    _bank: TextBank | None = None

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        text_bank: Any = None,
        names: Sequence[str] | None = None,
        training_free: bool = False,
        width: int | None = None,
        rows_per_center: int = 300,
        nouns_per_center: int = 5,
        temperature: float = 0.005,
        neighbors: int = 50,
        balance: float = 5.0,
        contrast_temperature: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float = 1e-3,
        n_init: int = 20,
        random_state: Any = None,
        training: Training | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.text_bank = text_bank
        self.names = names
        self.training_free = training_free
        self.width = width
        self.rows_per_center = rows_per_center
        self.nouns_per_center = nouns_per_center
        self.temperature = temperature
        self.neighbors = neighbors
        self.balance = balance
        self.contrast_temperature = contrast_temperature
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.n_init = n_init
        self.random_state = random_state
        self.training = training

    def cluster_names(self, top: int = 3) -> list[list[str]]:
        """Up to ``top`` names for each cluster, at most 5: the chosen nouns nearest to the mean text of its images."""
        check_is_fitted(self)
        index = torch.as_tensor(self.cluster_nouns_)[:, : whole_number(top, "top")].tolist()
        return [[self._noun_names[i] for i in row if i >= 0] for row in index]

    def _scale(self, samples: Samples) -> None:
        return None  # directions count: what is shifted has others

    def _network(self, samples: Samples, K: int) -> Network:
        self._check()
        self._bank = None
        d = samples.shape[0]
        n_nouns = n_image_centers(len(samples), K, self.rows_per_center) * self.nouns_per_center
        return Network(d, K, n_nouns, self.temperature, not self.training_free, self.width or d)

    def _phases(self, network: Network, samples: Samples, K: int) -> list[Phase]:
        bank, N = self._texts(samples), len(samples)
        n_centers = n_image_centers(N, K, self.rows_per_center)

        def choose() -> None:
            v = rows_of(samples, _unit)
            centers = kmeans_of(v, n_centers, n_init=-(-self.n_init // 2), spherical=True).centers
            network.choose(bank, centers, self.nouns_per_center)

        def divide() -> None:
            found = kmeans_of(rows_of(samples, network.both), K, n_init=self.n_init, spherical=True)
            network.centers.copy_(found.centers)

        if self.training_free:
            return [Phase("k-means", (), N, 0, N, start=choose, end=divide)]
        contrast_temperature, epochs, batch_size = self._how(K)
        space = cache(lambda: _space(network, samples, self.neighbors))

        def distill(step: Step) -> dict[str, Tensor]:
            assert network.image_head is not None and network.text_head is not None
            v, t, near_v, near_t = space()
            rows = step.rows.to(v.device)
            one = torch.randint(self.neighbors, (2, len(step.batch)), generator=step.generator).to(v.device)
            one = torch.stack([step.own(numbers) for numbers in one])
            return mutual_distillation(
                step.gather(network.image_head(v[rows])),
                step.gather(network.text_head(t[rows])),
                step.gather(network.image_head(v[near_v[rows, one[0]]])),
                step.gather(network.text_head(t[near_t[rows, one[1]]])),
                temperature=contrast_temperature,
                balance=self.balance,
            )

        heads = [*network.image_head.parameters(), *network.text_head.parameters()]
        return [
            single("distillation", heads, distill, self._adam, n_rows=N, epochs=epochs, batch_size=batch_size,
                   start=choose)
        ]  # fmt: skip

    def _check(self) -> None:
        self._demand(
            counts=("rows_per_center", "nouns_per_center", "neighbors", "n_init", *self._given("width")),
            batches=self._given("batch_size"),
            epochs=self._given("epochs"),
            above_zero=("temperature", "lr", *self._given("contrast_temperature")),
            from_zero=("balance",),
        )  # fmt: skip
        if not isinstance(self.training_free, bool):
            raise InputError(f"training_free must be True or False, got {self.training_free!r}.")

    def _texts(self, samples: Samples) -> TextBank:
        """The bank, read once in a fit."""
        if self._bank is None:
            self._bank = read_bank(self.text_bank, self.names, samples.shape[0])
        return self._bank

    def _given(self, *names: str) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    def _how(self, K: int) -> tuple[float, int, int]:
        """Temperature of the contrast, epochs and batch size, given or by the number of clusters."""
        usual = (5.0, 100, 8192) if K >= _MANY else (0.5, 20, 512)
        given = (self.contrast_temperature, self.epochs, self.batch_size)
        temperature, epochs, batch_size = (b if a is None else a for a, b in zip(given, usual, strict=True))
        return float(temperature), int(epochs), int(batch_size)

    def _adam(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, betas=(0.9, 0.99))

    def _identity(self, samples: Samples) -> dict[str, Any]:
        identity = super()._identity(samples)
        # However the texts were given, what they are decides.
        for name in ("text_bank", "names"):
            identity["parameters"].pop(name)
        return {**identity, "texts": self._texts(samples).fingerprint}

    def _assign(self, network: Network, x: Tensor) -> Tensor:
        if network.image_head is None:
            return nearest_softmax(network.both(x), network.centers)
        return network.image_head(_unit(x)).exp()

    def _codes(self, network: Network, x: Tensor) -> Tensor:
        return network.both(x) if network.image_head is None else network.image_head(_unit(x))

    def _keep(self, samples: Samples) -> None:
        network, bank, self._bank = self.network_, self._texts(samples), None
        index = network.noun_index[network.noun_index >= 0]
        labels = torch.as_tensor(self.labels_).to(samples.device)
        with isolated(samples.device, self._training().threads), torch.no_grad():
            texts = rows_of(samples, lambda x: network.counterpart(_unit(x)))
            means = cluster_means(texts, labels, len(network.centers))
            order = (means @ network.nouns[network.noun_index >= 0].T).argsort(dim=1, descending=True, stable=True)
        nearest = torch.full((len(means), _NAMES), -1, device=index.device)
        nearest[:, : len(index)] = index[order[:, :_NAMES]]
        nearest[~(means != 0).any(1)] = -1
        self.nouns_, self.cluster_nouns_ = samples.give(index.sort().values), samples.give(nearest)
        self._noun_names = {i: bank.names[i] for i in index.tolist()}


def _unit(x: Tensor) -> Tensor:
    return normalize(x, dim=1)


def _space(network: Network, samples: Samples, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and texts [N, d] and the neighbours [N, k] of each among its kind.

    It follows from the chosen nouns, so that a checkpoint need not hold it; always in float32, at every place.
    """
    with torch.no_grad(), torch.autocast(samples.device.type, enabled=False):
        v = rows_of(samples, _unit)
        t = torch.cat([network.counterpart(part) for part in v.split(2048)])
        return v, t, neighbors_of(v, k), neighbors_of(t, k)
