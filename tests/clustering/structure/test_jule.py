"""JULE: triplets, periods, shapes that k-means cannot tell apart, digits and images."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.structure.jule import JULE, Triplets
from pyfast_mmcl.clustering.votes import neighbor_vote
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (256,), "code": 64, "epochs": 2, "batch_size": 200, "lr": 1e-3}


def test_triplets_are_two_of_a_cluster_and_one_of_another():
    labels = torch.tensor([2, 0, 1, 1, 0, 1, 1, 0])
    rows = torch.arange(8).repeat(400)
    alike, other = Triplets(labels).draw(rows, torch.Generator().manual_seed(0))
    assert torch.equal(labels[alike], labels[rows])
    assert not (alike == rows)[rows > 0].any()  # row 0 is alone
    assert not (labels[other] == labels[rows]).any()
    for row in range(8):
        assert set(alike[rows == row].tolist()) == {i for i in range(8) if labels[i] == labels[row] and i != row} or {0}
        assert set(other[rows == row].tolist()) == {i for i in range(8) if labels[i] != labels[row]}


def test_votes_are_their_formula():
    codes = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float32)
    labels = torch.tensor([1, 0, 1])
    soft = neighbor_vote(torch.tensor([[0.5], [0.0]]), codes, labels, 3, voters=2, width=2.0)
    near = 1 / (1 + np.exp(-0.5))
    torch.testing.assert_close(soft, torch.tensor([[0.5, 0.5, 0.0], [1 - near, near, 0.0]], dtype=torch.float32))
    far = neighbor_vote(torch.full((1, 1), 1e6), codes, labels, 3, voters=5, width=0.0)
    torch.testing.assert_close(far, torch.tensor([[0.0, 1.0, 0.0]]))


def test_periods_of_merging_end_when_there_are_k_clusters():
    slow, fast = (JULE(10, **SMALL, unroll=unroll, random_state=0).fit(X[:500]) for unroll in (0.5, 1.0))
    assert len(fast.history_) in (SMALL["epochs"], SMALL["epochs"] + 1)  # the end of the only period is an entry
    assert len(slow.history_) > 2 * len(fast.history_)
    kept = JULE(10, **SMALL, unroll=1.0, recluster=False, random_state=0).fit(X[:500])
    unlearnt = JULE(10, **{**SMALL, "lr": 1e-30}, unroll=1.0, recluster=False, random_state=0).fit(X[:500])
    torch.testing.assert_close(kept.network_.labels, unlearnt.network_.labels)  # clusters of the rows


def test_moons_are_told_apart_for_new_rows_too():
    rows, moon = make_moons(900, noise=0.05, random_state=0)
    model = JULE(2, **SMALL, random_state=0).fit(rows[:600])
    assert clustering_accuracy(moon[:600], model.labels_) > 0.98
    assert clustering_accuracy(moon[600:], model.predict(rows[600:])) > 0.98
    assert clustering_accuracy(moon[:600], KMeans(2, random_state=0).fit(rows[:600]).labels_) < 0.9


def test_digits_are_found_better_than_by_k_means():
    ours = clustering_accuracy(Y, JULE(10, **SMALL, random_state=0).fit(X).labels_)
    assert ours > 0.8 > clustering_accuracy(Y, KMeans(10, random_state=0).fit(X).labels_)


def test_images():
    images = (X[:400].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    model = JULE(10, code=16, epochs=2, unit_rows=True, lr=1e-3, random_state=0).fit(images)
    assert clustering_accuracy(Y[:400], model.labels_) > 0.7
    assert model.transform(images).shape == (400, 16)
    np.testing.assert_array_equal(model.predict(images), model.labels_)


@pytest.mark.parametrize(("bad", "words"), [({"unroll": 0}, "unroll"), ({"unroll": 1.5}, "unroll"),
                                            ({"epochs": 0}, "epochs"), ({"context": 0}, "context")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        JULE(3, **bad).fit(X[:50])
