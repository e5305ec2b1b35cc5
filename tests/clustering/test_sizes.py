"""Clusters of bounded size: against the exact assignment, within every bound, and as an estimator."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering import sizes
from pyfast_mmcl.clustering.balanced_kmeans import BalancedKMeans
from pyfast_mmcl.clustering.inputs import read_rows
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.sizes import label_sums, sized_labels
from tests.check import assert_same_bits, raises_sentence


def rows_and_centers(N=90, K=6, D=3, seed=0, metric="l2"):
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(size=(N - N // 3, D)) / 4, rng.normal(size=(N // 3, D)) + 2])
    rows = read_rows(X.astype(np.float32))
    rows = rows.unit() if metric == "cosine" else rows
    return rows, rows.take(rng.choice(N, K, replace=False))


def cost_table(rows, centers, metric):
    x, c = rows.source.double().numpy(), centers.double().numpy()
    return ((x[:, None] - c) ** 2).sum(-1) if metric == "l2" else 1 - x @ c.T


@pytest.fixture(params=["table", "search"])
def way(request, monkeypatch):
    if request.param == "search":
        monkeypatch.setattr(sizes, "_CELLS", 64)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("seed", range(3))
def test_equal_sizes_cost_hardly_more_than_the_exact_assignment(metric, seed):
    rows, centers = rows_and_centers(seed=seed, metric=metric)
    labels = sized_labels(rows, centers, 15, 15, metric=metric)
    assert np.bincount(labels).tolist() == [15] * 6
    table = cost_table(rows, centers, metric)
    seats = np.repeat(table, 15, axis=1)
    best = seats[linear_sum_assignment(seats)].sum()
    found = table[np.arange(90), labels].sum()
    assert best - 1e-6 <= found <= best + 90 * 1e-3 * table.min(1).mean() + 1e-6


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("least", "most"), [(0, 90), (0, 20), (10, 90), (15, 15), (14, 16), (0, 15), (1, 40)])
def test_every_bound_holds(least, most):
    rows, centers = rows_and_centers()
    count = np.bincount(sized_labels(rows, centers, least, most, metric="l2"), minlength=6)
    assert count.sum() == 90 and count.min() >= least and count.max() <= most


def test_bounds_that_do_not_bind_change_nothing():
    rows, centers = rows_and_centers()
    table = cost_table(rows, centers, "l2")
    np.testing.assert_array_equal(sized_labels(rows, centers, 0, 90, metric="l2"), table.argmin(1))


def test_duplicates_are_shared_out(monkeypatch):
    rows = read_rows(np.ones((20, 3), dtype=np.float32))
    centers = torch.stack([torch.zeros(3), torch.ones(3), torch.ones(3)])
    for cells in (2**20, 4):
        monkeypatch.setattr(sizes, "_CELLS", cells)
        assert sorted(np.bincount(sized_labels(rows, centers, 6, 7, metric="l2"))) == [6, 7, 7]


def test_rows_left_over_by_the_auction_find_a_place(monkeypatch):
    monkeypatch.setattr(sizes, "_ROUNDS", 1)
    rows, centers = rows_and_centers()
    assert np.bincount(sized_labels(rows, centers, 15, 15, metric="l2")).tolist() == [15] * 6


def test_sums_of_given_labels():
    rows, centers = rows_and_centers()
    labels = np.arange(90) % 6
    sums, counts, cost = label_sums(rows, centers, labels, metric="l2")
    x = rows.source.double().numpy()
    np.testing.assert_allclose(sums, np.stack([x[labels == k].sum(0) for k in range(6)]), rtol=1e-12)
    assert counts.tolist() == [15] * 6
    assert cost == pytest.approx(cost_table(rows, centers, "l2")[np.arange(90), labels].sum(), rel=1e-12)


@pytest.mark.parametrize("spherical", [False, True])
def test_balanced_k_means(spherical):
    X = load_digits().data
    model = BalancedKMeans(10, spherical=spherical, max_iter=8, random_state=0).fit(X)
    assert sorted(np.bincount(model.labels_)) == [179, 179, 179] + [180] * 7
    assert list(model.inertia_history_) == sorted(model.inertia_history_, reverse=True)
    free = KMeans(10, spherical=spherical, random_state=0).fit(X)
    assert free.inertia_ < model.inertia_ < 1.06 * free.inertia_


def test_bounds_of_the_estimator():
    X = load_digits().data[:500]
    count = np.bincount(BalancedKMeans(5, size_min=80, size_max=120, max_iter=5, random_state=0).fit(X).labels_)
    assert count.min() >= 80 and count.max() <= 120
    loose = BalancedKMeans(5, size_min=0, random_state=0).fit(X)
    assert_same_bits(loose.labels_, KMeans(5, max_iter=100, random_state=0).fit(X).labels_)


@pytest.mark.parametrize("bounds", [{"size_min": 6}, {"size_max": 4}, {"size_min": 5, "size_max": 4}])
def test_bounds_that_cannot_be_met(bounds):
    with raises_sentence(InputError, "size_min", "n_samples=20"):
        BalancedKMeans(4, **bounds).fit(np.arange(20.0)[:, None])


@pytest.mark.parametrize("given", [(200, 50, 30, 20), (100, 100, 60, 40)], ids=["one large", "two large"])
def test_tight_groups_far_apart_are_shared_out_at_the_least_cost(given):
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0], [1, 0], [0, 1], [3, 3]], dtype=np.float32)
    X = (np.repeat(centers, given, axis=0) + 1e-3 * rng.normal(size=(300, 2))).astype(np.float32)
    labels = sized_labels(read_rows(X), torch.from_numpy(centers), 75, 75, metric="l2")
    cost = ((X[:, None].astype(np.float64) - centers) ** 2).sum(-1)
    places = np.repeat(cost, 75, axis=1)
    least = places[linear_sum_assignment(places)].sum()
    np.testing.assert_allclose(cost[np.arange(300), labels].sum(), least, rtol=1e-5)


def test_equal_rows_are_shared_out_in_a_few_rounds(monkeypatch):
    monkeypatch.setattr(sizes, "_ROUNDS", 20)
    monkeypatch.setattr(
        sizes, "_place", lambda costs, labels, rest, most: rest.size and pytest.fail("rows were left over")
    )
    X = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 4, axis=0)
    assert sorted(BalancedKMeans(5, random_state=0).fit(X).cluster_counts_.tolist()) == [2, 2, 2, 3, 3]
