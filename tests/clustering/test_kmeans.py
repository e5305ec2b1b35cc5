"""KMeans: beside scikit-learn's, against float64 references, on structure that is known and on real data."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.metrics.clustering import clustering_scores
from tests.check import assert_same_bits, assert_same_partition, raises_sentence
from tests.clustering.sets import digits, mnist10k, views


def blobs(N=400, K=5, D=6, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(N) % K)
    return (8 * np.eye(K, D)[y] + spread * rng.normal(size=(N, D))).astype(np.float32), y


def noise(N=500, D=7, seed=0):
    return np.random.default_rng(seed).normal(size=(N, D))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tol", [0.0, 1e-4])
def test_agrees_with_scikit_learn_on_digits(seed, tol):
    X, _ = digits()
    start = X[np.random.default_rng(seed).choice(len(X), 10, replace=False)]
    ours = KMeans(10, init=start, tol=tol).fit(X)
    theirs = SklearnKMeans(10, init=start, n_init=1, tol=tol).fit(X)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-5, atol=1e-5)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6)
    # A row midway between two centres may go to either in another precision, which can cost one iteration.
    assert abs(ours.n_iter_ - theirs.n_iter_) <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("N", "D", "K"), [(1, 1, 1), (64, 2, 5), (65, 129, 3), (997, 17, 16)])
def test_agrees_with_scikit_learn_on_noise(N, D, K, dtype):
    X = noise(N, D).astype(dtype)
    ours = KMeans(K, init=X[:K], max_iter=5).fit(X)
    theirs = SklearnKMeans(K, init=X[:K], n_init=1, max_iter=5).fit(X)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-5, abs=1e-9)
    assert ours.cluster_centers_.dtype == dtype


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random", "auto"])
@pytest.mark.parametrize("spherical", [False, True])
def test_solves_blobs(init, spherical):
    X, y = blobs()
    model = KMeans(5, init=init, n_init=10, spherical=spherical, random_state=1).fit(X)
    assert_same_partition(model.labels_, y)


def test_inertia_is_that_of_labels_and_centers_and_never_rose():
    X = noise()
    model = KMeans(9, random_state=0).fit(X)
    cost = ((X - model.cluster_centers_[model.labels_]) ** 2).sum()
    assert model.inertia_ == pytest.approx(cost, rel=1e-5)
    assert model.inertia_ == model.inertia_history_[-1]
    assert (np.diff(model.inertia_history_) <= 1e-6 * cost).all()
    assert model.score(X) == pytest.approx(-cost, rel=1e-5)


def test_more_runs_are_never_worse():
    X = noise()
    inertias = [KMeans(12, n_init=runs, init="random", random_state=0).fit(X).inertia_ for runs in (1, 4, 12)]
    assert inertias[0] >= inertias[1] >= inertias[2]
    assert inertias[0] > inertias[2]


def test_scale_and_offset_do_not_change_the_partition():
    X, y = blobs(N=100)
    X = X.astype(np.float64)
    for scale, offset in ((1e-30, 0), (1e-12, 0), (1e12, 0), (1e30, 0), (1.0, 1e7), (1e-3, 1e4)):
        model = KMeans(5, n_init=3, random_state=0).fit(scale * X + offset)
        assert_same_partition(model.labels_, y)
        assert np.isfinite(model.inertia_) and model.inertia_ > 0
        assert_same_partition(model.predict(scale * X + offset), y)
    huge = KMeans(5, n_init=3, random_state=0).fit((1e30 * X).astype(np.float32))
    assert_same_partition(huge.labels_, y)


# Spherical


def spherical_reference(X, centers, iterations):
    """Float64: unit rows, centres are directions of sums. Returns labels and Σ (1 − cos) of the last centres."""
    U = X / np.linalg.norm(X, axis=1, keepdims=True)
    C = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    for _ in range(iterations):
        labels = (U @ C.T).argmax(1)
        C = np.stack([U[labels == k].sum(0) for k in range(len(C))])
        C /= np.linalg.norm(C, axis=1, keepdims=True)
    similarity = U @ C.T
    return similarity.argmax(1), (1 - similarity.max(1)).sum(), C


def test_spherical_equals_the_reference():
    X = noise(600, 9) * np.random.default_rng(1).uniform(0.01, 100, size=(600, 1))  # lengths must not matter
    model = KMeans(7, init=X[:7], spherical=True, max_iter=4, tol=0).fit(X)
    labels, inertia, centers = spherical_reference(X, X[:7], 4)
    np.testing.assert_array_equal(model.labels_, labels)
    np.testing.assert_allclose(model.cluster_centers_, centers, atol=1e-6)
    assert model.inertia_ == pytest.approx(inertia, rel=1e-5)
    cosine = X @ centers.T / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(model.transform(X), 1 - cosine, atol=1e-6)


def test_spherical_ignores_zero_rows():
    X, y = blobs(N=100)
    padded = np.concatenate([np.zeros((30, 6), dtype=np.float32), X])
    model = KMeans(5, spherical=True, n_init=5, random_state=0).fit(padded)
    assert_same_partition(model.labels_[30:], y)
    assert (model.labels_[:30] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(padded), model.labels_)


def test_spherical_cluster_of_zero_rows_is_refilled():
    X, y = blobs(N=90, K=3, D=3)
    padded = np.concatenate([np.zeros((10, 3), dtype=np.float32), X])
    start = np.array([[-1.0, -1, -1], [8, 0, 0], [0, 8, 0]])  # the first centre attracts zero rows only
    model = KMeans(3, spherical=True, init=start).fit(padded)
    assert_same_partition(model.labels_[10:], y)


def test_spherical_center_whose_rows_cancel_stays():
    X = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    model = KMeans(1, init=np.array([[0.6, 0.8]]), spherical=True).fit(X)
    np.testing.assert_allclose(model.cluster_centers_, [[0.6, 0.8]], rtol=1e-6)
    assert model.inertia_ == pytest.approx(4)


def test_spherical_without_any_direction():
    with raises_sentence(InputError, "zero vectors only"):
        KMeans(2, spherical=True).fit(np.zeros((5, 3)))


# Mini-batches


def sculley(batches, centers):
    """Algorithm 1 of the paper, row by row in float64."""
    centers, counts = centers.astype(np.float64).copy(), np.zeros(len(centers))
    for batch in batches:
        assigned = ((batch[:, None] - centers) ** 2).sum(-1).argmin(1)
        for x, k in zip(batch, assigned, strict=True):
            counts[k] += 1
            centers[k] += (x - centers[k]) / counts[k]
    return centers, counts


def test_partial_fit_equals_sculley():
    X = noise(700, 5)
    batches = np.split(X, [40, 41, 300, 550])
    model = KMeans(6, init=X[:6])
    for batch in batches:
        assert model.partial_fit(batch) is model
        assert len(model.labels_) == len(batch)
    centers, counts = sculley(batches, X[:6])
    np.testing.assert_allclose(model.cluster_centers_, centers, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.cluster_counts_, counts)
    assert model.n_steps_ == 5


def test_partial_fit_goes_on_after_fit():
    X, more = noise(300, 4), noise(200, 4, seed=1)
    model = KMeans(3, random_state=0).fit(X)
    before, counts = model.cluster_centers_.copy(), model.cluster_counts_.copy()
    labels = model.predict(more)
    model.partial_fit(more)
    for k in range(3):
        mean = np.concatenate([X[KMeans(3, random_state=0).fit(X).labels_ == k], more[labels == k]]).mean(0)
        np.testing.assert_allclose(model.cluster_centers_[k], mean, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(before, model.cluster_centers_)
    assert model.cluster_counts_.sum() == counts.sum() + 200


@pytest.mark.parametrize("spherical", [False, True])
def test_partial_fit_finds_blobs(spherical):
    X, y = blobs(N=2000)
    model = KMeans(5, spherical=spherical, random_state=0)
    for batch in np.split(X, 20):
        model.partial_fit(batch)
    assert_same_partition(model.predict(X), y)
    if spherical:
        np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1, rtol=1e-6)


def test_partial_fit_is_precise_after_many_small_batches():
    # A float32 running mean stalls: at count 1e6 the steps fall below its rounding.
    rng = np.random.default_rng(0)
    model = KMeans(1, init=np.zeros((1, 1)))
    batch = rng.normal(loc=1e3, size=(50_000, 1)).astype(np.float32)
    for _ in range(20):
        model.partial_fit(batch)
    assert model.cluster_centers_[0, 0] == np.float32(batch.astype(np.float64).mean())


def test_partial_fit_in_kind_and_deterministic():
    X = noise(300).astype(np.float32)
    by_array, by_tensor = KMeans(4, random_state=0), KMeans(4, random_state=0)
    for batch in np.split(X, 3):
        by_array.partial_fit(batch)
        by_tensor.partial_fit(torch.from_numpy(batch))
    assert isinstance(by_tensor.cluster_centers_, torch.Tensor)
    assert_same_bits(by_tensor.cluster_centers_, by_array.cluster_centers_)


def test_first_batch_must_hold_k_rows():
    with raises_sentence(InputError, "n_clusters=6", "n_samples=5"):
        KMeans(6).partial_fit(noise(5))


def test_fit_after_partial_fit_starts_anew():
    X = noise()
    model = KMeans(4, random_state=0).partial_fit(X[:50])
    assert_same_bits(model.fit(X).cluster_centers_, KMeans(4, random_state=0).fit(X).cluster_centers_)
    assert model.n_steps_ == 0


# Manners


def test_transform_is_the_distance_to_every_center():
    X = noise().astype(np.float32)
    model = KMeans(6, random_state=0).fit(X)
    distance = np.linalg.norm(X[:, None].astype(np.float64) - model.cluster_centers_, axis=-1)
    np.testing.assert_allclose(model.transform(X), distance, rtol=1e-6)
    np.testing.assert_array_equal(model.transform(X).argmin(1), model.predict(X))
    assert isinstance(model.transform(torch.from_numpy(X)), torch.Tensor)
    assert list(model.get_feature_names_out()) == [f"kmeans{k}" for k in range(6)]


@pytest.mark.parametrize("far", [1e9, 2e18, 1e19, 1e30])
def test_given_centers_may_lie_far_beyond_the_rows(far):
    X = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    init = np.full((3, 4), far) * [[1], [-1], [2]]
    model = KMeans(3, init=init).fit(X)
    cost = ((X[:, None].astype(float) - model.cluster_centers_) ** 2).sum(-1)
    np.testing.assert_array_equal(model.labels_, cost.argmin(1))
    assert len(set(model.labels_)) == 3 and model.inertia_ == pytest.approx(cost.min(1).sum())


def test_empty_cluster_is_refilled():
    X = blobs(N=100)[0]
    start = np.concatenate([X[[0]], np.full((4, 6), 1e3, dtype=np.float32) + np.eye(4, 6, dtype=np.float32)])
    model = KMeans(5, init=start).fit(X)
    assert (model.cluster_counts_ > 0).all()
    assert set(model.labels_) == set(range(5))


def test_many_copies_of_few_rows():
    X = np.tile(np.eye(4, dtype=np.float32), (2500, 1))
    with pytest.warns(ConvergenceWarning, match=r"\(4\) found smaller than n_clusters \(9\)"):
        model = KMeans(9, random_state=0).fit(X)
    assert model.inertia_ == 0
    assert model.n_iter_ <= 3


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"init": "kmeans"}, UnknownNameError, "k-means++"),
        ({"init": np.zeros((3, 2))}, InputError, "(2, 7)"),
        ({"n_init": "many"}, UnknownNameError, "auto"),
        ({"n_init": 0}, InputError, "n_init"),
        ({"max_iter": 0}, InputError, "max_iter"),
        ({"max_iter": 2.5}, InputError, "max_iter"),
        ({"tol": -1.0}, InputError, "tol"),
        ({"tol": float("nan")}, InputError, "tol"),
        ({"tol": "small"}, InputError, "tol"),
        ({"backend": "nativ"}, InputError, "native"),
    ],
)
def test_bad_parameters_are_named(parameters, error, words):
    with raises_sentence(error, words):
        KMeans(2, **parameters).fit(noise())


# Real data


def test_digits_quality():
    X, y = digits()
    scores = clustering_scores(y, KMeans(10, n_init=5, random_state=0).fit(X).labels_)
    assert scores["acc"] > 0.75 and scores["nmi"] > 0.72 and scores["ari"] > 0.64


def test_mnist_quality(data_dir):
    X, y = mnist10k(data_dir)
    ours = KMeans(10, random_state=0, max_iter=40).fit(X)
    scores = clustering_scores(y, ours.labels_)
    assert 0.49 < scores["acc"] < 0.60 and 0.46 < scores["nmi"] < 0.54
    theirs = min(SklearnKMeans(10, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(3))
    assert ours.inertia_ < 1.01 * theirs


def test_handwritten_views_together_beat_each_alone(data_dir):
    parts, y = views(data_dir, "handwritten")
    alone = [clustering_scores(y, KMeans(10, n_init=3, random_state=0).fit(v).labels_) for v in parts]
    joint = clustering_scores(y, KMeans(10, n_init=3, random_state=0).fit(np.hstack(parts)).labels_)
    assert joint["acc"] > 0.93 and joint["nmi"] > 0.88
    assert joint["acc"] > max(score["acc"] for score in alone)


def test_batches_of_several_processes_are_refused():
    with raises_sentence(InputError, "partial_fit", "processes=None"):
        KMeans(2, processes="all").partial_fit(np.eye(4))
