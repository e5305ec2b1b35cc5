"""Merging clusters on a graph: against the affinities of the paper written out in full, and where there are none."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from pyfast_mmcl.clustering.agglomeration import Clusters, agglomerate, cluster_means, first_clusters, neighbor_graph
from tests.check import assert_same_partition


def rows(N: int, D: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, D))


def affinities(W: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Equation 3 of Yang et al. for all pairs of clusters, by matrix products."""
    C = labels.max() + 1
    A = np.zeros((C, C))
    for a in range(C):
        for b in range(C):
            if a != b:
                there, back = W[np.ix_(labels == a, labels == b)], W[np.ix_(labels == b, labels == a)]
                sizes = (labels == a).sum() ** 2, (labels == b).sum() ** 2
                A[a, b] = (there @ back).sum() / sizes[0] + (back @ there).sum() / sizes[1]
    return A


def merged_in_full(W: np.ndarray, labels: np.ndarray, K: int, context: int) -> np.ndarray:
    while labels.max() + 1 > K:
        A = affinities(W, labels)
        top = -np.sort(-A, axis=1)
        top = np.pad(top, ((0, 0), (0, context)))
        score = top[:, 0] + sum((top[:, 0] - top[:, k]) / (context - 1) for k in range(1, context))
        a = int(np.where(top[:, 0] > 0, score, -1).argmax())
        b = int(A[a].argmax())
        labels = np.unique(np.where(labels == max(a, b), min(a, b), labels), return_inverse=True)[1]
    return labels


def test_graph_is_its_formula():
    x = rows(17)
    square = ((x[:, None] - x[None]) ** 2).sum(2)
    np.fill_diagonal(square, np.inf)
    order = np.argsort(square, axis=1)[:, :4]
    kept = np.take_along_axis(square, order, axis=1)
    graph = neighbor_graph(torch.from_numpy(x), 4)
    expected = np.zeros((17, 17))
    np.put_along_axis(expected, order, np.exp(-kept / kept.mean()), axis=1)
    np.testing.assert_allclose(graph.W.toarray(), expected, rtol=1e-5)
    np.testing.assert_array_equal(graph.nearest, order[:, 0])
    assert graph.width == pytest.approx(kept.mean(), rel=1e-5)


def test_first_clusters_hang_together_by_nearest_neighbors():
    assert_same_partition(first_clusters(np.array([1, 0, 1, 4, 5, 4])), [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("context", [2, 5])
@pytest.mark.parametrize("K", [1, 3, 12])
def test_merges_are_those_of_the_affinities_written_out(context, K):
    x = rows(63)
    graph = neighbor_graph(torch.from_numpy(x), 12)
    start = first_clusters(graph.nearest)
    assert start.max() + 1 > 12
    full = graph.W.toarray()
    assert (affinities(full, start).max(1) > 0).all()
    found = agglomerate(graph.W, start, x, K, context=context)
    assert_same_partition(found, merged_in_full(full, start, K, context))


def test_affinities_stay_exact_through_every_merge():
    x = rows(31, seed=1)
    graph = neighbor_graph(torch.from_numpy(x), 8)
    clusters = Clusters(graph.W, np.arange(31), 5)
    for _ in range(21):
        assert clusters.merge_best()
        left = np.unique(clusters.labels)
        kept = np.array([[clusters.affinity[a].get(b, 0.0) for b in left] for a in left])
        np.testing.assert_allclose(kept, affinities(graph.W.toarray(), clusters.numbered()), rtol=1e-10, atol=1e-15)
    assert clusters.count == 10


def test_clusters_without_affinity_join_the_nearest_mean():
    W = csr_array(np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0.0]]))
    x = np.array([[0.0], [1.0], [10.0], [11.0], [9.0]])  # row 4 has an edge to row 0, but none back
    assert_same_partition(agglomerate(W, np.arange(5), x, 2), [0, 0, 1, 1, 1])
    assert_same_partition(agglomerate(W, np.arange(5), x, 1), [0] * 5)


def test_unconnected_rows_merge_by_their_means():
    x = np.array([[0.0], [1.0], [10.0], [11.0]])
    assert_same_partition(agglomerate(csr_array((4, 4)), np.arange(4), x, 2), [0, 0, 1, 1])
    assert_same_partition(agglomerate(csr_array((4, 4)), np.arange(4), x, 4), [0, 1, 2, 3])


def test_no_fewer_clusters_than_there_are():
    graph = neighbor_graph(torch.from_numpy(rows(15)), 3)
    start = np.arange(15) % 2
    assert_same_partition(agglomerate(graph.W, start, rows(15), 5), start)


def test_means():
    x = rows(31)
    labels = np.arange(31) % 4
    np.testing.assert_allclose(cluster_means(x, labels), [x[labels == c].mean(0) for c in range(4)], rtol=1e-12)
