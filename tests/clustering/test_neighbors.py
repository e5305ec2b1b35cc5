"""Neighbours and graphs against float64 distances between all rows, in one bank and in many."""

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import SpectralClustering
from sklearn.datasets import make_circles

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering import neighbor_search, neighbors
from pyfast_mmcl.clustering.neighbors import (
    knn_graph,
    mutual_neighbors,
    nearest_rows,
    neighbors_of,
    shared_neighbors,
)
from pyfast_mmcl.clustering.samples import read_samples
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from pyfast_mmcl.ops.knn import knn
from tests.check import assert_neighbours, assert_same_bits, layouts, raises_sentence

RNG = np.random.default_rng(0)
METRICS = ("l2", "ip", "cosine")


def rows(N: int, D: int = 7, *, ties: bool = False) -> torch.Tensor:
    values = RNG.integers(0, 3, (N, D)) if ties else RNG.normal(size=(N, D))
    return torch.from_numpy(values.astype(np.float32))


def scores(x: torch.Tensor, metric: str) -> torch.Tensor:
    """float64 [N, N], smaller is nearer, infinite for the row itself."""
    x = x.double()
    if metric == "l2":
        key = (x[:, None] - x).square().sum(-1)
    else:
        unit = x / x.norm(dim=1, keepdim=True).clamp_min(1e-300) if metric == "cosine" else x
        key = -(unit[:, None] * unit).sum(-1)
    return key.fill_diagonal_(torch.inf)


def small_parts(monkeypatch, D: int, bank: int, block: int) -> None:
    """Banks and blocks of so many rows."""
    monkeypatch.setattr(neighbor_search, "_BANK_BYTES", 4 * D * bank)
    monkeypatch.setattr(neighbor_search, "_BLOCK_BYTES", 4 * D * block)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("N", [2, 15, 33, 97, 129])
def test_neighbours_are_those_of_all_distances(N, metric):
    x, k = rows(N), min(5, N - 1)
    assert_neighbours(neighbors_of(x, k, metric=metric), scores(x, metric), k, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("bank", "block"), [(1000, 17), (40, 1000), (31, 16), (9, 129)])
def test_parts_give_the_bits_of_one_search(monkeypatch, metric, ties, bank, block):
    x = rows(129, ties=ties)
    expected = knn(x, x, 9, metric=metric, exclude_self=True)
    small_parts(monkeypatch, 7, bank, block)
    for name, same in layouts(x):
        distances, indices = nearest_rows(same, 9, metric=metric)
        assert torch.equal(indices, expected[1]), name
        assert_same_bits(distances, expected[0])


def test_near_ties_across_banks_are_ranked_in_float64(monkeypatch):
    # Distances to row 0 that are one number in float32 and grow from the last row to the first in float64.
    x = torch.ones(8, 2)
    x[1:, 0] = 4097.0
    x[1:, 1] = 1 + torch.arange(7, 0, -1) / 2**10
    square = (x.double()[0] - x.double()[1:]).square().sum(1)
    assert len(square.float().unique()) == 1 and len(square.unique()) == 7
    small_parts(monkeypatch, 2, 3, 8)
    assert neighbors_of(x, 7)[0].tolist() == [7, 6, 5, 4, 3, 2, 1]


def test_row_itself_is_left_out_among_many_equal_rows(monkeypatch):
    x = torch.ones(20, 3)
    for bank in (20, 6):
        small_parts(monkeypatch, 3, bank, 7)
        index = neighbors_of(x, 4)
        for i in range(20):
            assert index[i].tolist() == [j for j in range(20) if j != i][:4]


def test_kinds_of_rows(tmp_path, monkeypatch):
    x = RNG.normal(size=(60, 5))
    whole = np.round(100 * x)
    expected = neighbors_of(whole, 6)
    assert isinstance(expected, np.ndarray) and expected.dtype == np.int64
    small_parts(monkeypatch, 5, 25, 11)
    for dtype in ("f2", "f4", "f8", "i2", "u1"):
        values = (whole - whole.min() if dtype == "u1" else whole).clip(*((0, 255) if dtype == "u1" else (-1e4, 1e4)))
        np.save(tmp_path / "x.npy", values.astype(dtype))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        same = neighbors_of(values, 6) if dtype == "u1" else expected
        np.testing.assert_array_equal(neighbors_of(mapped, 6), same)
        np.testing.assert_array_equal(neighbors_of(torch.from_numpy(np.array(mapped)), 6).numpy(), same)
    far = x + 1e9  # lies within float64 only
    np.testing.assert_array_equal(neighbors_of(far, 6), neighbors_of(far - 1e9, 6))


def test_samples_are_searched_as_they_are_scaled(monkeypatch):
    samples = read_samples(1e6 + RNG.normal(size=(50, 4)), torch.device("cpu"))
    samples.scaling = samples.measure()
    x = samples.take(torch.arange(50))
    expected = knn(x, x, 3, exclude_self=True)
    for bank in (1000, 13):
        small_parts(monkeypatch, 4, bank, 9)
        distances, indices = nearest_rows(samples, 3)
        assert_same_bits(distances, expected[0])
        assert torch.equal(indices, expected[1])
    with raises_sentence(InputError, "images", "codes"):
        neighbors_of(read_samples(np.zeros((3, 1, 4, 4)), torch.device("cpu"), images=True), 2)


def test_few_rows_repeat():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    assert neighbors_of(x, 5).tolist() == [[1, 2, 1, 2, 1], [0, 2, 0, 2, 0], [1, 0, 1, 0, 1]]
    assert neighbors_of(x[:1], 3).tolist() == [[0, 0, 0]]
    assert [part.shape for part in nearest_rows(x, 5)] == [(3, 2), (3, 2)]
    assert [part.shape for part in nearest_rows(x[:1], 5)] == [(1, 0), (1, 0)]


@pytest.mark.parametrize("pairs", [2**22, 50])
def test_mutual_and_shared_neighbours_are_their_definitions(monkeypatch, pairs):
    monkeypatch.setattr(neighbors, "_PAIRS", pairs)
    index = neighbors_of(rows(40), 6)
    sets = [set(row) for row in index.tolist()]
    mutual, count = mutual_neighbors(index), shared_neighbors(index)
    share = shared_neighbors(index.numpy(), measure="jaccard")
    assert mutual.dtype == torch.bool and count.dtype == torch.int64 and isinstance(share, np.ndarray)
    for i, row in enumerate(index.tolist()):
        assert mutual[i].tolist() == [i in sets[j] for j in row]
        assert count[i].tolist() == [len(sets[i] & sets[j]) for j in row]
        np.testing.assert_allclose(share[i], [len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for j in row], rtol=1e-6)


def test_repeated_neighbours_count_once():
    index = neighbors_of(rows(4), 9)
    assert (shared_neighbors(index) == 2).all()
    np.testing.assert_allclose(shared_neighbors(index, measure="jaccard"), 2 / 4)


def dense_weights(x: torch.Tensor, k: int, weights: str, scale: float | None, metric: str) -> torch.Tensor:
    """W [N, N] by loops over pairs in float64."""
    x = x.double()
    unit = x / x.norm(dim=1, keepdim=True)
    square = torch.cdist(x, x).square() if metric == "l2" else 2 - 2 * unit @ unit.T
    order = square.clone().fill_diagonal_(torch.inf).argsort(1)[:, :k]
    d = square.gather(1, order).sqrt()
    s = d[:, -1].median() if scale is None else scale
    local = d[:, min(7, k) - 1]
    sets = [set(row) for row in order.tolist()]
    W = torch.zeros(len(x), len(x), dtype=torch.float64)
    for i in range(len(x)):
        for j in order[i].tolist():
            W[i, j] = {
                "connectivity": lambda i, j: 1.0,
                "heat": lambda i, j: float(torch.exp(-square[i, j] / (2 * s**2))),
                "self_tuning": lambda i, j: float(torch.exp(-square[i, j] / (local[i] * local[j]))),
                "jaccard": lambda i, j: len(sets[i] & sets[j]) / len(sets[i] | sets[j]),
            }[weights](i, j)
    return W


@pytest.mark.parametrize("weights", neighbors.WEIGHTS)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_graph_is_its_definition(weights, metric):
    x, k = rows(33), 8
    for scale in (None, 0.7):
        expected = dense_weights(x, k, weights, scale, metric)
        for symmetry, both in (("union", expected.maximum(expected.T)), ("mutual", expected.minimum(expected.T)),
                               ("mean", (expected + expected.T) / 2), ("none", expected)):  # fmt: skip
            W = knn_graph(x.numpy(), k, weights=weights, symmetry=symmetry, scale=scale, metric=metric)
            assert W.format == "csr" and W.dtype == np.float64 and W.has_sorted_indices
            np.testing.assert_allclose(W.toarray(), both.numpy(), rtol=2e-5, atol=1e-6)
            assert symmetry == "none" or abs(W - W.T).max() == 0


@pytest.mark.parametrize("weights", neighbors.WEIGHTS)
def test_graph_of_equal_and_of_few_rows(weights):
    equal = knn_graph(np.ones((6, 2)), 3, weights=weights)
    assert np.isfinite(equal.data).all() and equal.nnz > 0
    assert knn_graph(np.ones((1, 2)), 3, weights=weights).shape == (1, 1)
    assert knn_graph(np.eye(3), 9, weights=weights).nnz == 6
    far = knn_graph(np.array([[0.0], [0.0], [1e6], [1e6]]), 2, weights=weights, scale=1.0)
    assert connected_components(far)[0] == 1


def test_graph_serves_spectral_clustering():
    x, ring = make_circles(400, factor=0.4, noise=0.03, random_state=0)
    model = SpectralClustering(2, affinity="precomputed", random_state=0)
    for how in ({"weights": "heat"}, {"weights": "self_tuning", "symmetry": "mean"}):
        assert clustering_accuracy(ring, model.fit_predict(knn_graph(x, 10, **how))) > 0.99


@pytest.mark.parametrize("threads", [1, 2])
def test_number_of_threads_does_not_matter(threads):
    x = torch.from_numpy(np.random.default_rng(5).normal(size=(700, 9)).astype(np.float32))
    torch.set_num_threads(threads)
    assert_neighbours(neighbors_of(x, 10), scores(x, "l2"), 10, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: neighbors_of(np.eye(3), 0), "k must"),
        (lambda: neighbors_of(np.eye(3), 2, metric="l3"), "metric"),
        (lambda: neighbors_of(np.full((3, 2), np.nan), 2), "row 0"),
        (lambda: neighbors_of(np.zeros(3), 2), "two-dimensional"),
        (lambda: knn_graph(np.eye(3), 2, metric="ip"), "metric"),
        (lambda: knn_graph(np.eye(3), 2, weights="hot"), "weights"),
        (lambda: knn_graph(np.eye(3), 2, symmetry="both"), "symmetry"),
        (lambda: knn_graph(np.eye(3), 2, scale=0), "scale"),
        (lambda: mutual_neighbors(np.eye(3)), "neighbors"),
        (lambda: mutual_neighbors(np.array([[3], [0]])), "from 0 to 1"),
        (lambda: shared_neighbors(np.array([[1], [0]]), measure="dice"), "measure"),
    ],
    ids=["k", "metric", "nan", "shape", "graph-metric", "weights", "symmetry", "scale", "floats", "range", "measure"],
)
def test_mistakes_are_named(call, words):
    with raises_sentence(InputError, words):
        call()


@pytest.mark.gpu
@pytest.mark.parametrize("metric", METRICS)
def test_gpu_finds_the_same(monkeypatch, metric):
    x = rows(500, 16)
    expected = neighbors_of(x, 10, metric=metric)
    for bank in (10_000, 170):
        small_parts(monkeypatch, 16, bank, 123)
        found = neighbors_of(x.cuda(), 10, metric=metric)
        assert found.is_cuda and torch.equal(found.cpu(), expected)
        graph = knn_graph(x.cuda(), 10)
    assert abs(graph - knn_graph(x, 10)).max() < 1e-5
    assert torch.equal(shared_neighbors(expected.cuda()).cpu(), shared_neighbors(expected))
    assert torch.equal(mutual_neighbors(expected.cuda()).cpu(), mutual_neighbors(expected))
