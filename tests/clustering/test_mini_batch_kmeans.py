"""Mini-batch k-means: near k-means, on memory maps, with starved centres moved, and its stops."""

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans as SklearnMiniBatch
from sklearn.datasets import load_digits

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.mini_batch_kmeans import MiniBatchKMeans
from tests.check import assert_same_bits, raises_sentence


def test_close_to_k_means_on_digits():
    X = load_digits().data
    ours = np.mean([MiniBatchKMeans(10, random_state=seed).fit(X).inertia_ for seed in range(3)])
    theirs = np.mean([SklearnMiniBatch(10, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(3)])
    assert ours < 1.05 * KMeans(10, random_state=0).fit(X).inertia_
    assert ours < 1.03 * theirs


def test_reads_few_rows_of_a_memory_map(tmp_path):
    rng = np.random.default_rng(0)
    X = (10 * np.eye(4, 6)[rng.integers(0, 4, 20_000)] + rng.normal(size=(20_000, 6))).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    how = {"batch_size": 256, "max_no_improvement": 3, "random_state": 0}
    model = MiniBatchKMeans(4, **how).fit(mapped)
    assert_same_bits(model.labels_, MiniBatchKMeans(4, **how).fit(X).labels_)
    assert model.n_iter_ <= 3
    assert model.inertia_ < 1.02 * KMeans(4, random_state=0).fit(X).inertia_


def test_starved_centers_move_into_the_rows():
    X = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    start = np.concatenate([X[:1], np.full((4, 3), 1e3, dtype=np.float32)])
    model = MiniBatchKMeans(5, init=start, batch_size=200, random_state=0).fit(X)
    assert len(set(model.labels_)) == 5
    frozen = MiniBatchKMeans(5, init=start, batch_size=200, reassignment_ratio=0.0, random_state=0)
    with pytest.warns(UserWarning, match=r"\(1\) found smaller"):
        assert set(frozen.fit(X).labels_) == {0}


def test_stops():
    X = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    long = {"batch_size": 100, "max_no_improvement": None, "random_state": 0}
    assert MiniBatchKMeans(5, max_iter=3, **long).fit(X).n_steps_ == 30
    assert MiniBatchKMeans(5, max_iter=3, **long).fit(X).n_iter_ == 3
    assert MiniBatchKMeans(5, max_iter=3, tol=1e9, **long).fit(X).n_steps_ == 1
    assert MiniBatchKMeans(5, batch_size=100, max_no_improvement=1, random_state=0).fit(X).n_steps_ < 100


def test_partial_fit_is_that_of_k_means():
    X = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    ours, plain = MiniBatchKMeans(4, random_state=0), KMeans(4, random_state=0)
    for batch in np.split(X, 3):
        ours.partial_fit(batch)
        plain.partial_fit(batch)
    assert_same_bits(ours.cluster_centers_, plain.cluster_centers_)


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"max_no_improvement": 0}, "max_no_improvement"),
        ({"init_size": 0.5}, "init_size"),
        ({"reassignment_ratio": -1}, "reassignment_ratio"),
        ({"tol": -1}, "tol"),
    ],
)
def test_bad_parameters_are_named(parameters, word):
    with raises_sentence(InputError, word):
        MiniBatchKMeans(2, **parameters).fit(np.arange(10.0)[:, None])
