"""Silhouettes: against their formula in plain loops, scikit-learn's, and what a sample promises."""

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_samples, silhouette_score

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics import silhouette as module
from pyfast_mmcl.metrics.silhouette import sample_rows, silhouette, silhouette_of_rows
from tests.check import assert_same_bits, raises_sentence


def rows(N: int = 130, K: int = 5, D: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(K, size=N)
    return rng.normal(size=(K, D))[y] + 0.7 * rng.normal(size=(N, D)), y


def by_the_formula(X, labels, metric):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    values = []
    for i in range(len(X)):
        distance = np.sqrt(((X - X[i]) ** 2).sum(1)) if metric == "euclidean" else 1 - unit @ unit[i]
        own = (labels == labels[i]) & (np.arange(len(X)) != i)
        if not own.any():
            values.append(0.0)
            continue
        a = distance[own].mean()
        b = min(distance[labels == k].mean() for k in set(labels) - {labels[i]})
        values.append((b - a) / max(a, b))
    return np.array(values)


@pytest.mark.parametrize("metric", module.METRICS)
@pytest.mark.parametrize("N", [3, 17, 64, 129])
def test_values_are_those_of_the_formula(metric, N, monkeypatch):
    X, y = rows(N)
    y[0] = 99  # a cluster of one row
    expected = by_the_formula(X, y, metric)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 8 * N * 16)  # several blocks
    looked_at, values = silhouette_of_rows(X, y, metric=metric)
    np.testing.assert_array_equal(looked_at, np.arange(N))
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    assert silhouette(X, y, metric=metric) == pytest.approx(expected.mean(), abs=1e-9)


@pytest.mark.parametrize("metric", module.METRICS)
def test_a_sample_is_scored_as_scikit_learn_scores_those_rows(metric):
    X, y = rows(600)
    picked = sample_rows(600, 200, seed=4)
    assert len(set(picked)) == 200 and (np.diff(picked) > 0).all()
    ours = silhouette(X, y, metric=metric, sample=200, seed=4)
    assert ours == pytest.approx(silhouette_score(X[picked], y[picked], metric=metric), abs=1e-9)
    np.testing.assert_allclose(
        silhouette_of_rows(X, y, metric=metric, sample=200, seed=4)[1],
        silhouette_samples(X[picked], y[picked], metric=metric),
        atol=1e-9,
    )
    assert abs(ours - silhouette(X, y, metric=metric, sample=None)) < 0.05


def test_the_seed_decides_and_nothing_else(tmp_path):
    X, y = rows(500)
    X = X.astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    values = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for kind in (X, torch.from_numpy(X), np.load(tmp_path / "x.npy", mmap_mode="r"), X[:, ::-1][:, ::-1]):
            values.append(silhouette_of_rows(kind, y, sample=333, seed=1)[1])
    for value in values[1:]:
        assert_same_bits(value, values[0])
    assert silhouette(X, y, sample=100, seed=1) != silhouette(X, y, sample=100, seed=2)


def test_rows_far_from_the_origin_lose_nothing():
    X, y = rows(100)
    assert silhouette(X + 1e6, y) == pytest.approx(silhouette(X, y), abs=1e-6)


def test_equal_and_zero_rows_have_defined_values():
    assert silhouette(np.ones((6, 2)), [0, 0, 0, 1, 1, 1]) == 0
    zero = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert silhouette(zero, [0, 0, 1, 1], metric="cosine") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("X", "labels", "how", "words"),
    [
        (np.zeros((4, 2)), [0, 0, 0, 0], {}, ("2 clusters", "got 1")),
        (np.zeros((3, 2)), [0, 1], {}, ("[2, D]", "(3, 2)")),
        ([[0.0], [1.0]], [0, 1], {}, ("array",)),
        (np.full((2, 2), np.nan), [0, 1], {}, ("finite",)),
        (np.zeros((2, 2)), [0, 1], {"metric": "cosin"}, ("cosin", "cosine")),
        (np.zeros((2, 2)), [0, 1], {"sample": 0}, ("sample", "at least 1")),
    ],
)
def test_mistakes_are_named(X, labels, how, words):
    with raises_sentence(InputError, *words):
        silhouette(X, labels, **how)
