"""How many clusters: each criterion on groups it must count, against its formula, and the same for every seed."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import anderson
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.clustering.how_many import _NOT_NORMAL, anderson_darling, bic, how_many
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.metrics.silhouette import silhouette_of_distances
from tests.check import assert_same_partition, raises_sentence


def groups(K, N=300, D=6, spread=1.0, seed=0):
    """K groups ten standard deviations and more apart at spread 1, on a line in the first of D features."""
    rng = np.random.default_rng(seed)
    y = np.arange(N) % K
    return (10.0 * y[:, None] * np.eye(1, D) + spread * rng.normal(size=(N, D))).astype(np.float32), y


@pytest.mark.parametrize("criterion", ["auto", "gap", "x-means", "g-means"])
@pytest.mark.parametrize("K", [2, 5])
def test_counts_groups(criterion, K):
    found = how_many(groups(K)[0], criterion, most=12, random_state=0)
    assert found.n_clusters == K


@pytest.mark.parametrize("criterion", ["gap", "x-means", "g-means"])
def test_one_group_is_one_cluster(criterion):
    assert how_many(groups(1)[0], criterion, random_state=0).n_clusters == 1


def test_silhouette_looks_between_the_coarse_steps():
    rng = np.random.default_rng(0)
    corners = 10 * np.eye(17)[np.arange(340) % 17]
    found = how_many(corners + rng.normal(size=corners.shape), "silhouette", random_state=0)
    assert found.n_clusters == 17
    assert found.scores[17] == max(found.scores.values())


def test_silhouette_equals_scikit_learn():
    X, y = groups(4, N=60, spread=3.0)
    y[0] = 4  # a singleton, whose silhouette is 0
    distances = np.sqrt(((X[:, None].astype(np.float64) - X) ** 2).sum(-1))
    assert silhouette_of_distances(distances, y) == pytest.approx(
        silhouette_score(distances, y, metric="precomputed"), rel=1e-12
    )
    assert silhouette_of_distances(distances, np.zeros(60, dtype=int)) == -1.0


def test_bic_of_one_gaussian_equals_scikit_learn():
    X = groups(1, N=200, D=5)[0].astype(np.float64)
    inertia = ((X - X.mean(0)) ** 2).sum()
    # A spherical mixture of one component; scikit-learn's BIC is −2 times ours, and it adds 1e-6 to the variance.
    theirs = GaussianMixture(1, covariance_type="spherical", reg_covar=0.0).fit(X).bic(X)
    assert -2 * bic(inertia, np.array([200]), 5) == pytest.approx(theirs, rel=1e-9)


def test_anderson_darling_equals_scipy():
    x = np.random.default_rng(0).gamma(3.0, size=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how newer versions tell the level of the test
        theirs = anderson(x, dist="norm").statistic
    assert anderson_darling(3 * x - 7) == pytest.approx(theirs * (1 + 4 / 200 - 25 / 200**2), rel=1e-9)
    assert anderson_darling(np.ones(20)) == 0.0


def test_normal_values_pass_the_test_that_two_heaps_fail():
    rng = np.random.default_rng(0)
    assert all(anderson_darling(rng.normal(size=n)) < _NOT_NORMAL for n in (8, 16, 50, 400) for _ in range(50))
    assert all(anderson_darling(rng.normal(size=n) + 6 * (np.arange(n) % 2)) > _NOT_NORMAL for n in (50, 400))


@pytest.mark.parametrize("D", [2, 16])
def test_g_means_counts_stretched_groups_and_x_means_does_not(D):
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(D) < max(1, D // 4), 5.0, 1.0)
    one = scale * rng.normal(size=(1000, D))
    three = one + 40.0 * np.eye(3, D)[np.arange(1000) % 3][:, ::-1]
    for X, K in ((one, 1), (three, 3)):
        assert how_many(X, "g-means", random_state=0).n_clusters == K
        assert how_many(X, "x-means", random_state=0).n_clusters > K


def test_most_bounds_every_criterion():
    X = groups(5)[0]
    assert all(
        how_many(X, c, most=3, random_state=0).n_clusters <= 3 for c in ("silhouette", "gap", "x-means", "g-means")
    )
    assert how_many(X, most=1).n_clusters == 1


@pytest.mark.parametrize("X", [np.zeros((1, 3)), np.ones((20, 3)), np.array([[0.0], [1.0]])])
def test_too_little_to_tell_is_one_cluster(X):
    assert how_many(X, random_state=0).n_clusters == 1


@pytest.mark.parametrize("criterion", ["silhouette", "gap", "x-means", "g-means"])
def test_threads_and_runs_agree(criterion):
    X = np.random.default_rng(0).normal(size=(400, 9)).astype(np.float32)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(how_many(X, criterion, most=12, random_state=3))
    assert found[0] == found[1]


def test_a_sample_decides_for_many_rows():
    X, y = groups(3, N=10_000)
    model = KMeans("auto", random_state=0).fit(X)
    assert model.n_clusters_ == 3 and model.n_clusters == "auto"
    assert_same_partition(model.labels_, y)


def test_partial_fit_decides_on_the_first_batch():
    X, y = groups(3)
    model = KMeans("gap", random_state=0).partial_fit(X[:150]).partial_fit(X[150:])
    assert model.n_clusters_ == 3
    assert_same_partition(model.predict(X), y)


def test_errors_name_the_criteria():
    with raises_sentence(UnknownNameError, "x-means"):
        how_many(groups(2)[0], "elbow")
    with raises_sentence(InputError, "n_clusters", "'silhouette'", "'elbow'"):
        KMeans("elbow").fit(groups(2)[0])


def test_the_gap_of_two_rows_divides_by_nothing():
    with np.errstate(divide="raise", invalid="raise"):
        assert how_many(np.array([[0.0, 1.0], [2.0, 0.5]]), "gap", random_state=0).n_clusters == 1
