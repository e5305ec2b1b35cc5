"""Centres from growing samples, and k-means++ in parts: as good as k-means++, without its N·K distances."""

import numpy as np
import pytest
import torch

from pyfast_mmcl.clustering import plus_plus
from pyfast_mmcl.clustering.growing import growing_centers, sample_sizes
from pyfast_mmcl.clustering.inputs import read_rows
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.lloyd import lloyd
from pyfast_mmcl.clustering.plus_plus import kmeans_plus_plus, plus_plus_in_parts
from pyfast_mmcl.ops.knn import draw_in_parts
from tests.check import assert_same_bits


def mixture(N=4000, K=60, D=6, seed=0):
    rng = np.random.default_rng(seed)
    return (4 * rng.normal(size=(K, D))[rng.integers(0, K, N)] + rng.normal(size=(N, D))).astype(np.float32)


def inertia(rows, centers, iterations=10):
    return lloyd(rows, centers, max_iter=iterations).inertia


def mean_inertia(rows, seed, draws=2):
    return np.mean([inertia(rows, seed(np.random.default_rng(draw))) for draw in range(draws)])


def grown(rows, K, rng, metric="l2"):
    return growing_centers(rows, K, rng, weights=np.ones(len(rows)), metric=metric)


@pytest.fixture
def parts_from_eight(monkeypatch):
    monkeypatch.setattr(plus_plus, "_WHOLE", 8)


@pytest.mark.usefixtures("parts_from_eight")
@pytest.mark.parametrize("seed", [plus_plus_in_parts, grown], ids=["parts", "growing"])
def test_as_good_as_k_means_plus_plus(seed):
    # One heap: what is compared is not the luck of finding every group.
    rows = read_rows(np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32))
    whole = mean_inertia(rows, lambda rng: kmeans_plus_plus(rows, 40, rng))
    assert mean_inertia(rows, lambda rng: seed(rows, 40, rng)) < 1.01 * whole


@pytest.mark.usefixtures("parts_from_eight")
def test_parts_find_most_groups():
    grid = np.stack(np.divmod(np.arange(100), 10), axis=1)
    X = (10.0 * np.repeat(grid, 20, axis=0) + 0.1 * np.random.default_rng(0).normal(size=(2000, 2))).astype(np.float32)
    centers = plus_plus_in_parts(read_rows(X), 100, np.random.default_rng(0)).numpy()
    assert len(np.unique(np.round(centers / 10), axis=0)) >= 95  # 100 random rows hit about 63


@pytest.mark.usefixtures("parts_from_eight")
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_draw_different_rows_of_positive_weight(weighted):
    X = mixture(N=300, K=5)
    weights = (np.arange(300) % 3 > 0).astype(float) if weighted else np.ones(300)
    centers = plus_plus_in_parts(read_rows(X), 150, np.random.default_rng(0), weights=weights).numpy()
    place = [int(np.flatnonzero((X == c).all(1))[0]) for c in centers]
    assert len(set(place)) == 150
    assert weights[place].all()


def test_growing_samples_leave_most_rows_unread():
    rows = read_rows(mixture(N=20_000, K=3))
    read = []
    take = rows.take
    rows.take = lambda index: read.append(index) or take(index)
    grown(rows, 3, np.random.default_rng(0))
    read = np.concatenate(read)
    assert len(read) == len(set(read.tolist())) == sample_sizes(20_000, 3, 6)[-1] == 768


@pytest.mark.parametrize(
    ("N", "K", "D", "sizes"),
    [
        (10**6, 1000, 128, [64_000, 256_000]),
        (10**7, 10**5, 512, [1_600_000]),
        (10**7, 1000, 512, [64_000, 131_072]),
        (40, 5, 2, [40]),
        (5, 5, 2, [5]),
    ],
)
def test_sample_sizes(N, K, D, sizes):
    assert sample_sizes(N, K, D) == sizes


@pytest.mark.parametrize("spherical", [False, True])
def test_growing_does_not_depend_on_threads(spherical):
    X, models = mixture(N=6000, K=20), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        models.append(KMeans(20, init="growing", spherical=spherical, random_state=0, max_iter=3).fit(X))
    assert_same_bits(models[0].cluster_centers_, models[1].cluster_centers_)


def test_a_thousand_clusters_take_a_fraction_of_the_distances(monkeypatch):
    pairs = []

    class Counting(plus_plus.Nearer):
        def find(self, candidates, cost):
            pairs.append(len(candidates) * len(cost))
            return super().find(candidates, cost)

    def counting(x, weights, cost, starts, draws, uniform, **options):
        pairs.append((np.diff(starts) * np.diff(draws)).sum() * uniform.shape[1])
        return draw_in_parts(x, weights, cost, starts, draws, uniform, **options)

    monkeypatch.setattr(plus_plus, "Nearer", Counting)
    monkeypatch.setattr(plus_plus, "draw_in_parts", counting)
    X = np.random.default_rng(0).normal(size=(4000, 4)).astype(np.float32)
    centers = plus_plus_in_parts(read_rows(X), 1000, np.random.default_rng(0))
    assert len(np.unique(centers.numpy(), axis=0)) == 1000
    assert sum(pairs) < 0.05 * 8 * 4000 * 1000  # k-means++ itself looks at 8 candidates for each centre


@pytest.mark.usefixtures("parts_from_eight")
def test_parts_of_rows_far_from_the_origin_are_drawn_in_their_own_units():
    # float64 rows whose differences float32 would lose: drawn as from the same rows around the origin.
    grid = np.stack(np.divmod(np.arange(64), 8), axis=1)
    X = 1e-20 * (np.repeat(grid, 20, axis=0) + 0.001 * np.random.default_rng(0).normal(size=(1280, 2)))
    for offset in (0.0, 1e-12):
        rows = read_rows(X + offset)
        assert rows.center_dtype == torch.float64
        centers = plus_plus_in_parts(rows, 64, np.random.default_rng(0)).numpy() - offset
        assert len(np.unique(np.round(1e20 * centers), axis=0)) >= 60


@pytest.mark.usefixtures("parts_from_eight")
def test_duplicates_fill_up_once_all_distinct_rows_are_centres():
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32).repeat(10, 0)
    centers = plus_plus_in_parts(read_rows(X), 50, np.random.default_rng(0)).numpy()
    assert len(centers) == 50 and len(np.unique(centers, axis=0)) == 20
