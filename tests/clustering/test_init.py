"""First centres: what is drawn, how often, and how good it is."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.clustering import init, plus_plus
from pyfast_mmcl.clustering.init import initial_centers, kmeans_parallel, kmeans_plus_plus
from pyfast_mmcl.clustering.inputs import read_rows
from tests.check import assert_same_bits, raises_sentence

METHODS = ["k-means++", "k-means||", "random"]


def grid_blobs(K=25, per=20, seed=0):
    """K tight groups on a grid: good centres are one per group."""
    rng = np.random.default_rng(seed)
    centers = 10.0 * np.stack(np.divmod(np.arange(K), 5), axis=1)
    return (np.repeat(centers, per, axis=0) + 0.1 * rng.normal(size=(K * per, 2))).astype(np.float32)


def groups_hit(centers):
    return len({tuple(np.round(c / 10).astype(int)) for c in centers.numpy()})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("K", [1, 2, 17, 60])
def test_centers_are_different_rows(method, K):
    X = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    centers = initial_centers(read_rows(X), K, method, np.random.default_rng(0)).numpy()
    found = [np.flatnonzero((X == center).all(axis=1)) for center in centers]
    assert len({int(rows[0]) for rows in found}) == K


@pytest.mark.parametrize("method", METHODS)
def test_seed_fixes_the_draw(method):
    rows = read_rows(grid_blobs())
    first, again, other = (initial_centers(rows, 25, method, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert_same_bits(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("draw", [kmeans_plus_plus, kmeans_parallel])
def test_groups_are_found(draw):
    rows = read_rows(grid_blobs())
    assert all(groups_hit(draw(rows, 25, np.random.default_rng(seed))) == 25 for seed in range(5))


def test_random_draw_does_not_find_the_groups():
    # The two tests together show that the methods above do something.
    rows = read_rows(grid_blobs())
    assert groups_hit(initial_centers(rows, 25, "random", np.random.default_rng(0))) < 25


def test_parallel_draw_is_about_as_good_on_rows_without_structure():
    X = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    rows = read_rows(X)

    def cost(draw, seed):
        centers = draw(rows, 30, np.random.default_rng(seed)).numpy().astype(np.float64)
        return ((X[:, None].astype(np.float64) - centers) ** 2).sum(-1).min(1).sum()

    plain, parallel = (np.mean([cost(draw, s) for s in range(3)]) for draw in (kmeans_plus_plus, kmeans_parallel))
    assert parallel < 1.1 * plain


def test_frequencies_follow_the_mass():
    mass = np.array([0.0, 1.0, 0.0, 2.0, 5.0, 0.0])
    drawn = plus_plus.draw(np.random.default_rng(0), mass, 80_000)
    share = np.bincount(drawn, minlength=6) / 80_000
    np.testing.assert_allclose(share, mass / 8, atol=0.006)
    assert (share[mass == 0] == 0).all()


class Fixed:
    """A generator whose next numbers are known."""

    def __init__(self, value):
        self.value = value

    def random(self, count):
        return np.full(count, self.value)


@pytest.mark.parametrize("value", [0.0, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_draw_at_the_ends_of_the_range(value, scale):
    mass = scale * np.array([0.0, 3.0, 1e-9, 2.0, 0.0])
    drawn = plus_plus.draw(Fixed(value), mass, 2)
    assert drawn.tolist() == ([1, 1] if value == 0 else [3, 3])


@pytest.mark.parametrize("draw", [kmeans_plus_plus, kmeans_parallel])
def test_duplicates_run_out_gracefully(draw):
    X = np.repeat(np.array([[0.0, 0], [1, 0], [0, 1]], dtype=np.float32), 4, axis=0)
    centers = draw(read_rows(X), 7, np.random.default_rng(0))
    assert centers.shape == (7, 2)
    assert {tuple(c) for c in centers.tolist()} == {(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)}


@pytest.mark.parametrize("method", METHODS)
def test_zero_rows_are_no_spherical_centers(method):
    X = np.concatenate([np.zeros((50, 3)), np.eye(3), -np.eye(3)]).astype(np.float32)
    centers = initial_centers(read_rows(X).unit(), 6, method, np.random.default_rng(0), spherical=True)
    assert len({tuple(c) for c in centers.tolist()}) == 6
    assert (centers != 0).any(dim=1).all()


def test_more_spherical_centers_than_directions():
    X = np.concatenate([np.zeros((50, 2)), np.eye(2)]).astype(np.float32)
    for method in METHODS:
        centers = initial_centers(read_rows(X).unit(), 4, method, np.random.default_rng(0), spherical=True)
        assert centers.shape == (4, 2)
        assert (centers != 0).any(dim=1).all()


def test_auto_takes_growing_samples_for_much_work(monkeypatch):
    rows, rng = read_rows(grid_blobs()), np.random.default_rng
    assert_same_bits(initial_centers(rows, 9, "auto", rng(0)), initial_centers(rows, 9, "k-means++", rng(0)))
    monkeypatch.setattr(init, "_GROWING_FROM", 500 * 9)
    assert_same_bits(initial_centers(rows, 9, "auto", rng(0)), initial_centers(rows, 9, "growing", rng(0)))


def test_given_centers_are_copied_and_converted():
    rows = read_rows(grid_blobs())
    given = np.arange(6.0).reshape(3, 2).astype(np.float32)
    centers = initial_centers(rows, 3, given, np.random.default_rng(0))
    assert centers.dtype == torch.float32 and centers.data_ptr() != given.ctypes.data
    np.testing.assert_array_equal(centers.numpy(), given)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 2)), "(3, 2)"),
        (np.zeros((3, 5)), "(3, 2)"),
        (np.full((3, 2), np.nan), "finite"),
        (np.zeros(3), "two-dimensional"),
    ],
)
def test_bad_centers_are_named(value, words):
    with raises_sentence(InputError, "init", words):
        initial_centers(read_rows(grid_blobs()), 3, value, np.random.default_rng(0))


def test_unknown_names_and_zero_directions():
    rows = read_rows(grid_blobs())
    with raises_sentence(UnknownNameError, "kmeans++", "k-means++"):
        initial_centers(rows, 3, "kmeans++", np.random.default_rng(0))
    with raises_sentence(InputError, "zero vector"):
        initial_centers(rows.unit(), 2, np.array([[0.0, 0], [1, 0]]), np.random.default_rng(0), spherical=True)
    with raises_sentence(InputError, "zero vectors only"):
        initial_centers(read_rows(np.zeros((9, 2))).unit(), 2, "auto", np.random.default_rng(0), spherical=True)
