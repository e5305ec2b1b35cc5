"""Clustering scores: hand-computed values, brute-force matching, and laws that hold for every pair of partitions."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics import clustering
from pyfast_mmcl.metrics.clustering import (
    ari,
    cluster_balance,
    clustering_accuracy,
    clustering_scores,
    contingency,
    nmi,
    purity,
)
from tests.check import raises_sentence

SCORES = [clustering_accuracy, nmi, ari, purity]


@st.composite
def partitions(draw, max_labels=5):
    """Two label vectors of the same length, with negative labels and gaps in the numbering."""
    N = draw(st.integers(1, 40))
    vector = st.lists(st.integers(-1, max_labels - 2).map(lambda label: 7 * label), min_size=N, max_size=N)
    return np.array(draw(vector)), np.array(draw(vector))


def brute_force_accuracy(true, pred):
    """Best share over every injective naming, by trying them all."""
    classes, clusters = list(np.unique(true)), list(np.unique(pred))
    names = classes + ["unmatched"] * max(0, len(clusters) - len(classes))
    return max(
        sum(np.sum((pred == cluster) & (true == name)) for cluster, name in zip(clusters, naming, strict=True))
        for naming in permutations(names, len(clusters))
    ) / len(true)


def test_values_computed_by_hand():
    true = [0, 0, 0, 1, 1, 2]
    pred = [5, 5, 9, 9, 9, 9]
    # Table: class 0 → {5: 2, 9: 1}, class 1 → {9: 2}, class 2 → {9: 1}.
    assert clustering_accuracy(true, pred) == pytest.approx(4 / 6)
    assert purity(true, pred) == pytest.approx((2 + 2) / 6)
    H_true = -(3 / 6 * np.log(3 / 6) + 2 / 6 * np.log(2 / 6) + 1 / 6 * np.log(1 / 6))
    H_pred = -(2 / 6 * np.log(2 / 6) + 4 / 6 * np.log(4 / 6))
    cells = [(2, 3, 2), (1, 3, 4), (2, 2, 4), (1, 1, 4)]  # count, class size, cluster size
    mutual = sum(n / 6 * np.log(6 * n / (a * b)) for n, a, b in cells)
    assert nmi(true, pred) == pytest.approx(mutual / ((H_true + H_pred) / 2))
    # Pairs together: in both 1 + 1 = 2, in classes 3 + 1 = 4, in clusters 1 + 6 = 7, of 15.
    assert ari(true, pred) == pytest.approx((2 - 4 * 7 / 15) / ((4 + 7) / 2 - 4 * 7 / 15))


def test_greedy_matching_would_be_wrong():
    # Greedy takes the largest cell (5) and gets 5 + 0; the best matching gets 4 + 4.
    true = np.repeat([0, 0, 1], [5, 4, 4])
    pred = np.repeat([0, 1, 0], [5, 4, 4])
    assert clustering_accuracy(true, pred) == pytest.approx(8 / 13)


@settings(max_examples=150, deadline=None)
@given(partitions())
def test_accuracy_equals_brute_force(pair):
    true, pred = pair
    assert clustering_accuracy(true, pred) == pytest.approx(brute_force_accuracy(true, pred))


@settings(max_examples=100, deadline=None)
@given(partitions(), st.permutations(range(5)), st.randoms(use_true_random=False))
def test_invariant_to_names_and_row_order(pair, names, random):
    true, pred = pair
    renamed = np.array([f"c{names[label // 7 + 1]}" for label in pred])
    order = np.arange(len(true))
    random.shuffle(order)
    for score in SCORES:
        assert score(true, pred) == pytest.approx(score(true[order], renamed[order]), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(partitions())
def test_bounds_and_symmetry(pair):
    true, pred = pair
    larger = max(len(np.unique(true)), len(np.unique(pred)))
    assert 1 / larger - 1e-12 <= clustering_accuracy(true, pred) <= 1
    assert clustering_accuracy(true, pred) <= purity(true, pred) <= 1
    assert -1e-9 <= nmi(true, pred) <= 1 + 1e-9
    assert -0.5 - 1e-9 <= ari(true, pred) <= 1 + 1e-9
    for score in (clustering_accuracy, nmi, ari):
        assert score(true, pred) == pytest.approx(score(pred, true), abs=1e-9)
        assert score(true, true) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(partitions(max_labels=9))
def test_sparse_matching_equals_dense(pair):
    true, pred = (np.unique(labels, return_inverse=True)[1].reshape(-1) for labels in pair)
    table = contingency(true, pred)
    assert clustering._matched_sparse(table) == clustering._matched(true, pred)


def test_many_labels_take_the_sparse_path():
    rng = np.random.default_rng(0)
    true = np.arange(20_000) % 9_000
    naming = rng.permutation(9_000)
    assert 9_000**2 > clustering._DENSE_CELLS
    assert clustering_accuracy(true, naming[true]) == 1.0
    wrong = naming[true].copy()
    wrong[:300] = naming[(true[:300] + 1) % 9_000]
    assert clustering_accuracy(true, wrong) == pytest.approx(1 - 300 / 20_000)


def test_million_rows_and_a_thousand_clusters():
    rng = np.random.default_rng(1)
    true = rng.integers(1000, size=1_000_000)
    pred = rng.permutation(1000)[true]
    noise = rng.random(len(true)) < 0.2
    pred[noise] = rng.integers(1000, size=noise.sum())
    assert clustering_accuracy(true, pred) == pytest.approx(0.8 + 0.2 / 1000, abs=0.002)


def test_balance_is_the_evenness_of_the_sizes():
    assert cluster_balance([3, 3, 8, 8]) == pytest.approx(1)
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2)
    assert cluster_balance([0, 0, 0, 5]) == pytest.approx(expected)
    # Empty clusters count where their number is known.
    assert cluster_balance([0, 0, 0, 5], n_clusters=4) == pytest.approx(expected / 2)
    assert cluster_balance([7, 7]) == 1 and cluster_balance([7, 7], n_clusters=3) == 0
    with raises_sentence(InputError, "n_clusters=1", "2 clusters"):
        cluster_balance([0, 1], n_clusters=1)
    with raises_sentence(InputError, "labels", "empty"):
        cluster_balance([])


@pytest.mark.parametrize("kind", [list, np.asarray, torch.as_tensor, lambda v: np.asarray(v, dtype=np.float32)])
def test_kinds_of_labels_agree(kind):
    true, pred = [0, 0, 1, 1, 2], [1, 1, 0, 2, 2]
    assert clustering_scores(kind(true), kind(pred)) == clustering_scores(true, pred)


def test_contingency_counts():
    table = contingency(["b", "a", "b", "b"], [3, 3, -1, 3])
    assert table.toarray().tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("true", "pred", "words"),
    [
        ([], [], "empty"),
        ([0, 1], [0], "same length"),
        (np.zeros((2, 2), int), [0, 1], "one-dimensional"),
        ([0, 1], [0.5, 1.0], "discrete"),
        ([0, 1], [np.nan, 1.0], "discrete"),
        ([0, 1], [np.inf, 1.0], "discrete"),
        ([0, 1], [1j, 2j], "integers or strings"),
    ],
)
def test_bad_labels_are_named(score, true, pred, words):
    with pytest.raises(InputError, match=words):
        score(true, pred)
