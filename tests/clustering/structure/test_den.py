"""DEN: neighbours, locality, groups, and what it does for digits."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.structure.den import DEN
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (64,), "pretrain_epochs": 3, "epochs": 6, "batch_size": 100, "n_init": 2, "neighbors": 5}


def between_neighbors(model) -> float:
    """Mean squared distance of neighbours' codes, relative to that of any two rows."""
    codes = torch.from_numpy(model.transform(X[:400])).double()
    near = codes[model.network_.neighbors]
    return float((codes[:, None] - near).square().sum(2).mean() / codes.var(0, correction=0).sum() / 2)


def test_neighbors_are_those_of_the_rows():
    model = DEN(10, **SMALL, random_state=0).fit(X[:400])
    square = ((X[:400, None] - X[None, :400]) ** 2).sum(2)
    np.fill_diagonal(square, np.inf)
    nearest = np.sort(square, axis=1)[:, :5]
    np.testing.assert_array_equal(np.take_along_axis(square, model.network_.neighbors.numpy(), axis=1), nearest)
    np.testing.assert_allclose(model.network_.affinities, np.exp(-nearest / nearest.mean()), rtol=1e-4)


def test_locality_draws_neighbors_together_and_sparsity_leaves_few_groups():
    plain, local, sparse = (
        DEN(10, **{**SMALL, "epochs": 25}, alpha=alpha, beta=beta, random_state=0).fit(X[:400])
        for alpha, beta in [(0.0, 0.0), (3.0, 0.0), (0.0, 1.0)]
    )

    assert between_neighbors(local) < 0.8 * between_neighbors(plain)
    assert set(local.history_[-1]["terms"]) == {"reconstruction", "locality", "sparsity"}

    def used(model):
        """Groups a row uses: (Σ norms)² / Σ norms², between 1 and K."""
        norms = np.linalg.norm(model.transform(X[:400]).reshape(400, 10, -1), axis=2)
        return float((norms.sum(1) ** 2 / (norms**2).sum(1)).mean())

    assert used(sparse) < 0.95 * used(plain)


def test_digits_are_found_better_than_by_k_means():
    model = DEN(10, widths=(128, 256), batch_size=128, pretrain_epochs=10, epochs=10, n_init=3, random_state=0).fit(X)
    ours = clustering_accuracy(Y, model.labels_)
    assert ours > 0.8 > clustering_accuracy(Y, KMeans(10, random_state=0).fit(X).labels_)


@pytest.mark.parametrize(("bad", "words"), [({"alpha": -1}, "alpha"), ({"group": 0}, "group"),
                                            ({"neighbors": 0}, "neighbors")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        DEN(3, **bad).fit(X[:50])
