"""PARTY: subspaces that k-means cannot tell apart, the prior kept in code space, digits."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.structure.party import PARTY
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (64,), "epochs": 4, "batch_size": 200, "n_init": 2}


def subspaces(N: int = 450, K: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Planes through the origin of 12 dimensions."""
    rng = np.random.default_rng(seed)
    y = np.arange(N) % K
    planes = rng.normal(size=(K, 2, 12))
    return np.einsum("nd,ndf->nf", rng.normal(size=(N, 2)), planes[y]) + 0.01 * rng.normal(size=(N, 12)), y


def test_subspaces_are_told_apart():
    rows, y = subspaces()
    model = PARTY(3, **SMALL, random_state=0).fit(rows)
    kept = model.network_.labels
    assert clustering_accuracy(y, kept) > 0.95
    assert clustering_accuracy(y, KMeans(3, random_state=0).fit(rows).labels_) < 0.6


def test_combinations_are_those_of_rows_of_any_length():
    network = PARTY(10, **{**SMALL, "epochs": 1}, lam=1e-3, random_state=0).fit(X[:200]).network_
    rows = torch.arange(200)
    x = torch.from_numpy(X[:200] - X[:200].mean(0)).float()
    network.codes = x  # rows in place of their codes: the combinations are near the rows themselves
    torch.testing.assert_close(network.norms / x.norm(dim=1), (network.norms / x.norm(dim=1)).mean().expand(200))
    expected = torch.stack(
        [
            sum(c * x[i].norm() / x[j].norm() * x[j] for c, j in zip(of, others, strict=True))
            for i, of, others in zip(range(200), network.coefficients, network.candidates, strict=True)
        ]
    )
    torch.testing.assert_close(network.represented(rows), expected, rtol=1e-3, atol=1e-3)
    assert float((expected - x).square().sum() / x.square().sum()) < 0.3


def test_codes_are_drawn_to_their_combinations():
    free, kept = (
        PARTY(10, **{**SMALL, "batch_size": 40}, keep=keep, random_state=0).fit(X[:400]) for keep in (0.0, 1.0)
    )

    def apart(model) -> float:
        network = model.network_
        return float((network.codes - network.represented(torch.arange(400))).square().sum(1).mean())

    assert apart(kept) < 0.7 * apart(free)
    assert set(kept.history_[-1]["terms"]) == {"reconstruction", "prior"}


@pytest.mark.parametrize("cluster_by", ["graph", "codes"])
def test_digits_by_graph_and_by_codes(cluster_by):
    model = PARTY(10, **{**SMALL, "epochs": 4}, cluster_by=cluster_by, random_state=0).fit(X)
    ours = clustering_accuracy(Y, model.labels_)
    if cluster_by == "graph":
        assert ours > 0.8 > clustering_accuracy(Y, KMeans(10, random_state=0).fit(X).labels_)
    else:
        assert ours > 0.5
        assert not model.network_.labels.any()


@pytest.mark.parametrize(("bad", "words"), [({"lam": -1}, "lam"), ({"candidates": 0}, "candidates"),
                                            ({"cluster_by": "grph"}, "graph")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        PARTY(3, **bad).fit(X[:50])
