"""Must-links and cannot-links: kept by every fit, near the best of all assignments, and contradictions named."""

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.constrained_kmeans import ConstrainedKMeans
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.links import Links
from pyfast_mmcl.metrics.clustering import clustering_scores
from tests.check import assert_same_bits, raises_sentence

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=4)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), pairs, pairs)
def test_choice_keeps_all_links_and_is_near_the_best(seed, must, cannot):
    cost = np.random.default_rng(seed).random((6, 3))
    allowed = [
        labels
        for labels in product(range(3), repeat=6)
        if all(labels[a] == labels[b] for a, b in must) and all(labels[a] != labels[b] for a, b in cannot)
    ]
    if not allowed:
        with pytest.raises(InputError, match="cannot_link"):
            links = Links(must, cannot, 6)
            links.choose(cost[links.rows])
        return
    links = Links(must, cannot, 6)
    labels = cost.argmin(1)
    labels[links.rows] = links.choose(cost[links.rows])
    assert tuple(labels) in allowed
    best = min(cost[range(6), list(choice)].sum() for choice in allowed)
    assert cost[range(6), labels].sum() <= best + 1.0  # greedy: at most about one row off its best place


def one_by_one(links, cost):
    """The rule written out: look at all groups again after every choice."""
    K = cost.shape[1]
    total = np.array([cost[links.group == g].sum(0) for g in range(links.groups)])
    label = np.where([not others for others in links.apart], total.argmin(1), -1)
    while (waiting := np.flatnonzero(label < 0)).size:
        allowed = [np.setdiff1d(np.arange(K), label[list(links.apart[g])]) for g in waiting]
        second = [np.sort(total[g])[min(1, K - 1)] - total[g].min() for g in waiting]
        first = min(range(len(waiting)), key=lambda i: (len(allowed[i]), -second[i], waiting[i]))
        if not len(allowed[first]):
            return None
        label[waiting[first]] = allowed[first][total[waiting[first]][allowed[first]].argmin()]
    return label[links.group]


@pytest.mark.parametrize(("rows", "P", "K"), [(30, 20, 1), (40, 60, 4), (80, 120, 7), (60, 400, 20), (50, 30, 2)])
def test_the_choice_is_that_of_looking_at_everything(rows, P, K):
    found = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        cannot = rng.integers(0, rows, (P, 2))
        must = rng.integers(0, rows, (rows // 10, 2)) if K > 2 else None
        try:
            links = Links(must, cannot[cannot[:, 0] != cannot[:, 1]], rows)
        except InputError:
            continue
        cost = rng.integers(0, 6, (len(links), K)).astype(float)  # with ties
        expected = one_by_one(links, cost)
        if expected is None:
            with pytest.raises(InputError, match="no cluster was left"):
                links.choose(cost)
            continue
        found += 1
        np.testing.assert_array_equal(links.choose(cost), expected)
    assert found or K < 3


def test_ten_thousand_cannot_links_take_seconds():
    rng = np.random.default_rng(0)
    cannot = rng.integers(0, 100_000, (10_000, 2))
    links = Links(None, cannot[cannot[:, 0] != cannot[:, 1]], 100_000)
    cost = rng.random((len(links), 50))
    start = time.process_time()
    labels = dict(zip(links.rows.tolist(), links.choose(cost).tolist(), strict=True))
    assert time.process_time() - start < 5  # all groups were looked at for every choice: minutes
    assert all(labels[a] != labels[b] for a, b in cannot.tolist() if a != b)


def test_must_links_tie_chains():
    links = Links([(0, 7), (7, 3)], [(3, 5)], 9)
    assert links.rows.tolist() == [0, 3, 5, 7]
    assert links.group[0] == links.group[1] == links.group[3] != links.group[2]


def test_links_of_digits():
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(X), size=(1500, 2))
    same = y[drawn[:, 0]] == y[drawn[:, 1]]
    model = ConstrainedKMeans(10, must_link=drawn[same], cannot_link=drawn[~same][:400], max_iter=20, random_state=0)
    labels = model.fit(X).labels_
    assert (labels[drawn[same]][:, 0] == labels[drawn[same]][:, 1]).all()
    assert (labels[drawn[~same][:400]][:, 0] != labels[drawn[~same][:400]][:, 1]).all()
    free = KMeans(10, max_iter=20, random_state=0).fit(X).labels_
    assert clustering_scores(y, labels)["nmi"] > clustering_scores(y, free)["nmi"]


@pytest.mark.parametrize("none", [None, [], np.zeros((0, 2))])
def test_without_links_it_is_k_means(none):
    X = load_digits().data[:300]
    ours = ConstrainedKMeans(6, must_link=none, cannot_link=none, random_state=0).fit(X)
    assert_same_bits(ours.labels_, KMeans(6, random_state=0).fit(X).labels_)
    assert ours.inertia_ == pytest.approx(KMeans(6, random_state=0).fit(X).inertia_, rel=1e-6)


X = np.arange(12.0)[:, None]


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ({"must_link": [(0, 12)]}, "row 12"),
        ({"cannot_link": [(-1, 2)]}, "row -1"),
        ({"must_link": [0, 1]}, "[P, 2]"),
        ({"must_link": [(0.0, 1.0)]}, "float64"),
        ({"cannot_link": [(3, 3)]}, "ties together"),
        ({"must_link": [(0, 1), (1, 2)], "cannot_link": [(0, 2)]}, "ties together"),
        ({"cannot_link": [(0, 1), (1, 2), (0, 2)]}, "n_clusters=2"),
    ],
)
def test_bad_links_are_named(links, words):
    with raises_sentence(InputError, words):
        ConstrainedKMeans(2, **links).fit(X)


def test_zero_rows_with_links_keep_no_cluster_alive():
    X = np.array([[1, 0], [0, 1], [0.1, 1], [-0.1, 1], [0, 0]], dtype=np.float32)
    model = ConstrainedKMeans(2, must_link=[(4, 1)], spherical=True, init=np.eye(2), random_state=0).fit(X)
    # The zero row is in cluster 1; that of the first row is no less alive for it.
    assert model.labels_.tolist() == [0, 1, 1, 1, 1] and model.n_iter_ < 10
    np.testing.assert_allclose(model.cluster_centers_, np.eye(2), atol=1e-6)


def test_links_of_different_lengths_are_refused():
    with raises_sentence(InputError, "must_link", "different lengths"):
        ConstrainedKMeans(2, must_link=[(0, 1), (2,)]).fit(np.eye(4))


def test_tied_rows_do_not_refill_an_empty_cluster():
    X = np.array([[0.0], [1.0], [2.0], [9.0]], dtype=np.float32)
    with pytest.warns(ConvergenceWarning):
        model = ConstrainedKMeans(2, must_link=[(0, 1), (1, 2), (2, 3)], random_state=0).fit(X)
    assert len(set(model.labels_.tolist())) == 1
    assert model.cluster_centers_[model.labels_[0], 0] == 3.0 and model.inertia_ == 50.0
