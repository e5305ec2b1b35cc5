"""K-means whose rows lie in several processes: the same centres, to the bit, however many there are."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering import shared
from pyfast_mmcl.clustering.augmentation.rim import RIM
from pyfast_mmcl.clustering.deep import Training
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.shared import grid, together
from tests.check import assert_same_bits, raises_sentence
from tests.processes import pool


def rows(N=1201, D=7, seed=0):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-6, 3, size=(N, 1))  # values of very different size: sums would round
    return (scale * rng.normal(size=(N, D))).astype(np.float32)


def shares(X, W):
    cuts = np.sort(np.random.default_rng(W).choice(np.arange(20, len(X)), size=W - 1, replace=False))
    return np.split(X, cuts)


def fitted(group, X, parameters):
    model = KMeans(processes=group, **parameters).fit(X)
    return model.cluster_centers_, model.labels_, model.inertia_, model.n_iter_, model.predict(X)


def run(X, W, **parameters):
    ranks = tuple(range(W))
    answers = pool().run(fitted, ranks, *[(part, parameters) for part in shares(X, W)])
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    centers, labels, inertia, n_iter, predicted = zip(*answers, strict=True)
    for other in centers[1:]:
        assert_same_bits(centers[0], other)
    assert len(set(inertia)) == 1 and len(set(n_iter)) == 1
    np.testing.assert_array_equal(np.concatenate(labels), np.concatenate(predicted))
    return centers[0], np.concatenate(labels), inertia[0], n_iter[0]


@pytest.mark.parametrize("init", ["k-means++", "growing"])
def test_one_two_and_five_processes_give_the_same_bits(init):
    X = rows()
    alone = run(X, 1, n_clusters=20, init=init, random_state=0)
    for W in (2, 5):
        together = run(X, W, n_clusters=20, init=init, random_state=0)
        assert_same_bits(alone[0], together[0])
        np.testing.assert_array_equal(alone[1], together[1])
        assert together[2] == pytest.approx(alone[2], rel=1e-12)
        assert together[3] == alone[3]


def test_it_is_k_means():
    X = rows()
    start = X[:20].copy()
    plain = KMeans(20, init=start).fit(X)
    centers, labels, inertia, _ = run(X, 3, n_clusters=20, init=start)
    np.testing.assert_allclose(centers, plain.cluster_centers_, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels, plain.labels_)
    assert inertia == pytest.approx(plain.inertia_, rel=1e-6)


def test_empty_clusters_are_refilled_from_all_processes():
    X = rows()
    start = np.concatenate([X[:1], np.full((9, 7), 1e6, dtype=np.float32)])
    alone, together = (run(X, W, n_clusters=10, init=start, max_iter=5) for W in (1, 4))
    assert_same_bits(alone[0], together[0])
    assert len(set(together[1].tolist())) == 10


def test_number_of_clusters_is_found_together():
    rng = np.random.default_rng(0)
    X = (10 * np.eye(3, 5)[np.arange(90) % 3] + rng.normal(size=(90, 5))).astype(np.float32)
    assert len(run(X, 3, n_clusters="x-means", random_state=0)[0]) == 3


def test_spherical():
    X = np.concatenate([rows(N=400), np.zeros((3, 7), dtype=np.float32)])
    plain = run(X, 1, n_clusters=6, spherical=True, random_state=0)
    together = run(X, 3, n_clusters=6, spherical=True, random_state=0)
    np.testing.assert_allclose(together[0], plain[0], rtol=1e-5, atol=1e-6)


def test_a_grid_makes_sums_exact():
    X, order = rows(), np.random.default_rng(1).permutation(1201)
    step = grid(float(np.abs(X).max()), len(X))
    snapped = np.round(X.astype(np.float64) / step) * step
    assert (snapped.astype(np.float32) == snapped).all()
    assert np.abs(snapped - X).max() <= 2.0**-41 * np.abs(X).max()
    total = snapped[order].cumsum(0)[-1]
    np.testing.assert_array_equal(total, snapped.cumsum(0)[-1])
    assert not np.array_equal(X.astype(np.float64)[order].cumsum(0)[-1], X.astype(np.float64).cumsum(0)[-1])


def test_errors():
    with raises_sentence(InputError, "init_process_group"):
        KMeans(2, processes="all").fit(rows(9))


def with_nan():
    X = rows(9)
    X[4, 2] = np.nan
    return X


@pytest.mark.parametrize(
    ("X", "parameters", "words"),
    [
        (with_nan(), {}, "KMeans over 2 processes: rank 1 reports: X must be finite, got NaN or inf in row 4"),
        (rows(9)[:, 0], {}, "rank 1 reports: X must be two-dimensional"),
        (rows(9)[:0], {}, "rank 1 reports: X is empty"),
        (rows(9, D=3), {}, "7 on rank 0 and 3 on rank 1"),
        (rows(9), {"tol": -1.0}, "rank 1 reports: tol must be"),
        (rows(9), {"n_clusters": 3}, "n_clusters is 2 on rank 0 and 3 on rank 1"),
        (rows(9), {"init": rows(2)}, "init is 'auto' on rank 0 and 'float32 (2, 7) "),
        (rows(9), {"random_state": "one"}, "rank 1 reports: random_state"),
    ],
    ids=["nan", "one axis", "no rows", "width", "parameter", "other parameter", "other start", "seed"],
)
def test_an_error_on_one_process_is_one_sentence_on_all(X, parameters, words):
    answers = pool().run(fitted, (0, 1), (rows(9), {"n_clusters": 2}), (X, {"n_clusters": 2, **parameters}))
    for answer in answers:
        with raises_sentence(InputError, words):
            raise answer
    assert str(answers[0]) == str(answers[1])


def prepared(group, settings, error):
    def prepare():
        if error is not None:
            raise error

    return together(prepare, group, settings, "X")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"a": 1}, TypeError("no len"), "X over 2 processes: rank 1 reports: no len"),
        ({"a": 1, "b.c": 2}, None, "b.c is not set on rank 0 and 2 on rank 1"),
        ({}, None, "a is 1 on rank 0 and not set on rank 1"),
        ({"a": "x" * 300}, None, "on rank 1"),
    ],
    ids=["type", "one more", "one less", "long"],
)
def test_processes_that_prepare_otherwise_are_told_apart(settings, error, words):
    for answer in pool().run(prepared, (0, 1), ({"a": 1}, None), (settings, error)):
        with raises_sentence(InputError, words):
            raise answer


def trained(group, X, parameters):
    accelerator = SimpleNamespace(num_processes=group.size())
    how = Training(accelerator=accelerator, device="cpu")
    with patch.object(shared, "_group", return_value=group):  # all processes of the pool would be many
        return RIM(**{"n_clusters": 2, "random_state": 0, "epochs": 1, "training": how, **parameters}).fit(X)


@pytest.mark.parametrize(
    ("X", "parameters", "words"),
    [
        (with_nan(), {}, "RIM over 2 processes: rank 1 reports: X must be finite, got NaN or inf in row 4"),
        (rows(9)[:1], {}, "rank 1 reports: n_clusters=2 needs at least 2 rows"),
        (rows(9) + 1, {}, "RIM over 2 processes: rows is"),
        (rows(9), {"lam": 0.5}, "parameters.lam is 0.01 on rank 0 and 0.5 on rank 1; give all"),
    ],
    ids=["nan", "few rows", "other rows", "other parameter"],
)
def test_deep_estimators_are_given_the_same_everywhere(X, parameters, words):
    for answer in pool().run(trained, (0, 1), (rows(9), {}), (X, parameters)):
        with raises_sentence(InputError, words):
            raise answer


def test_more_clusters_than_rows_of_all_processes():
    for answer in pool().run(fitted, (0, 1), *[(rows(9), {"n_clusters": 19})] * 2):
        with raises_sentence(InputError, "n_samples=18"):
            raise answer
    assert len(run(rows(60), 2, n_clusters=45)[0]) == 45  # more than either has


def test_torch_rows_stay_torch():
    answers = pool().run(fitted, (0, 1), *[(torch.from_numpy(part), {"n_clusters": 3}) for part in shares(rows(60), 2)])
    assert all(isinstance(answer[1], torch.Tensor) for answer in answers)
