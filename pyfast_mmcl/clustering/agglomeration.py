"""`agglomerate`: clusters of a directed graph of neighbours merge pair by pair, the most affine ones first.

Affinities between clusters are kept for those pairs alone that have any. With in(v, a) and out(v, a) the weights of
the edges from a cluster a to a row v and back, the affinity of clusters is a sum over rows:
``M(a → b) = Σ_{v in b} in(v, a) · out(v, a)``. Both factors add up when clusters merge, so that a merge touches the
rows near the two clusters and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nlargest

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pyfast_mmcl.clustering.neighbors import nearest_rows
from pyfast_mmcl.losses.embedding import heat_kernel
from pyfast_mmcl.ops.knn import nearest


@dataclass(frozen=True)
class NeighborGraph:
    """W [N, N], directed: ``exp(−d² / width)`` for the k nearest other rows, width their mean squared distance.

    nearest int64 [N] is the nearest other row of each.
    """

    W: csr_array
    width: float
    nearest: np.ndarray


def neighbor_graph(x: Tensor, k: int) -> NeighborGraph:
    """The graph of rows x [N, D], N ≥ 2. Reference: Yang et al., CVPR 2016, equation 1 with a = 1."""
    square, index = (found.cpu() for found in nearest_rows(x, k))
    (N, k), square = index.shape, square.double().clamp_min(0)
    columns, starts = index.numpy().ravel(), np.arange(N + 1) * k
    W = csr_array((heat_kernel(square).numpy().ravel(), columns, starts), shape=(N, N))
    return NeighborGraph(W, float(square.mean()), index[:, 0].numpy())


def first_clusters(nearest: np.ndarray) -> np.ndarray:
    """Clusters int64 [N] of rows that hang together by nearest neighbours; ``nearest`` int64 [N] is each row's.

    Reference: Zhang et al., *Graph degree linkage*, ECCV 2012, §3.4.
    """
    N = len(nearest)
    edges = coo_array((np.ones(N, dtype=np.int8), (np.arange(N), nearest)), shape=(N, N))
    return connected_components(edges, connection="weak")[1].astype(np.int64)


def agglomerate(W: csr_array, labels: np.ndarray, x: np.ndarray, K: int, *, context: int = 5) -> np.ndarray:
    """Merge clusters until K are left: int64 [N], numbered from 0.

    ``A(a, b) = (1ᵀ W_ab W_ba 1) / |a|² + (1ᵀ W_ba W_ab 1) / |b|²``. The next pair is a cluster and its most affine one
    where ``A_1 + Σ_{k=2..c} (A_1 − A_k) / (c − 1)`` is largest: affine to each other, and to no others nearby.

    Args:
        W: weights [N, N] of directed edges, no diagonal, at least 0.
        labels: int64 [N], clusters 0, 1, … to start from, none of them empty.
        x: rows [N, D]. Clusters without any affinity first join the one whose mean is nearest, as far as K allows;
            where no affinities are left, means are merged by average linkage.
        K: number of clusters at the end; no fewer than there are stay as they are.
        context: the number c of neighbouring clusters that are looked at.

    Ties go to smaller numbers. Reference: Zhang et al., ECCV 2012, equation 4; Yang et al., *Joint unsupervised
    learning*, CVPR 2016, equations 3 and 8.
    """
    clusters = Clusters(W, _taken_in(x, labels, Clusters(W, labels, context).score < 0, K), context)
    while clusters.count > K and clusters.merge_best():
        pass
    labels = clusters.numbered()
    return labels if clusters.count <= K else _merge_means(x, labels, K)


class Clusters:
    """Clusters, their affinities and their best partners.

    near[a]      rows v that have edges with cluster a and are not in it, in(v, a), out(v, a)
    toward[a]    {b: M(a → b)}, those above 0
    affinity[a]  {b: A(a, b)}, those above 0, symmetric
    score        float64 [C], of a cluster and its most affine one; −1 for clusters that are gone or have no affinity
    """

    def __init__(self, W: csr_array, labels: np.ndarray, context: int) -> None:
        C = int(labels.max()) + 1
        self.labels, self.count, self.context = labels.copy(), C, context
        order = np.argsort(labels, kind="stable")
        self.members = np.split(order, np.cumsum(np.bincount(labels, minlength=C))[:-1])
        self.near = _columns(W, labels, C)
        self.toward = [self._sums_toward(a) for a in range(C)]
        self.affinity: list[dict[int, float]] = [{} for _ in range(C)]
        for a in range(C):
            for b in self.toward[a]:
                self._set_affinity(a, b)
        self.score = np.array([self._score(a) for a in range(C)])

    def merge_best(self) -> bool:
        """Merge the best pair; False where no two clusters have any affinity."""
        a = int(self.score.argmax())
        if self.score[a] < 0:
            return False
        self._merge(*sorted((a, self._partners(a)[0][0])))
        return True

    def numbered(self) -> np.ndarray:
        """The cluster int64 [N] of every row, from 0 to ``count`` − 1."""
        return np.unique(self.labels, return_inverse=True)[1].astype(np.int64)

    def _merge(self, a: int, b: int) -> None:
        self.labels[self.members[b]] = a
        self.members[a] = np.concatenate([self.members[a], self.members[b]])
        self.near[a] = self._joined(a, b)
        touched = {*self.affinity[a], *self.affinity[b]} - {a, b}
        self.toward[a] = self._sums_toward(a)
        for c in touched:
            theirs = self.toward[c]
            total = theirs.pop(a, 0.0) + theirs.pop(b, 0.0)
            if total > 0:
                theirs[a] = total
            self.affinity[c].pop(a, None)
            self.affinity[c].pop(b, None)
        touched |= self.toward[a].keys()
        nothing = np.zeros(0)
        self.members[b], self.near[b] = nothing.astype(np.int64), (nothing.astype(np.int64), nothing, nothing)
        self.toward[b], self.affinity[b], self.score[b] = {}, {}, -1.0
        self.affinity[a] = {}
        self.count -= 1
        for c in sorted(touched):
            self._set_affinity(a, c)
        for c in touched:
            self.score[c] = self._score(c)
        self.score[a] = self._score(a)

    def _joined(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, inward, outward = (np.concatenate(pair) for pair in zip(self.near[a], self.near[b], strict=True))
        outside = self.labels[rows] != a
        rows, place = np.unique(rows[outside], return_inverse=True)
        inward, outward = (np.bincount(place, value[outside], len(rows)) for value in (inward, outward))
        return rows, inward, outward

    def _sums_toward(self, a: int) -> dict[int, float]:
        rows, inward, outward = self.near[a]
        product = inward * outward
        both = product > 0
        found, place = np.unique(self.labels[rows[both]], return_inverse=True)
        return dict(zip(found.tolist(), np.bincount(place, product[both], len(found)).tolist(), strict=True))

    def _set_affinity(self, a: int, b: int) -> None:
        there = self.toward[a].get(b, 0.0) / len(self.members[a]) ** 2
        back = self.toward[b].get(a, 0.0) / len(self.members[b]) ** 2
        if there + back > 0:
            self.affinity[a][b] = self.affinity[b][a] = there + back

    def _partners(self, a: int) -> list[tuple[int, float]]:
        return nlargest(self.context, self.affinity[a].items(), key=lambda item: (item[1], -item[0]))

    def _score(self, a: int) -> float:
        best = [value for _, value in self._partners(a)]
        if not best:
            return -1.0
        # Clusters nearby without affinity count as 0.
        others = self.context - 1
        return best[0] if others == 0 else 2 * best[0] - sum(best[1:]) / others


def _columns(W: csr_array, labels: np.ndarray, C: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For every cluster: the rows outside that it has edges with, and the weights of these, from it and to it."""
    N = len(labels)
    edges = W.tocoo()
    source, target = edges.coords
    source, target = source.astype(np.int64), target.astype(np.int64)
    key = np.concatenate([labels[source] * N + target, labels[target] * N + source])
    value, zero = edges.data, np.zeros(edges.nnz)
    between = np.tile(labels[source] != labels[target], 2)
    pairs, place = np.unique(key[between], return_inverse=True)
    inward = np.bincount(place, np.concatenate([value, zero])[between], len(pairs))
    outward = np.bincount(place, np.concatenate([zero, value])[between], len(pairs))
    cuts = np.searchsorted(pairs, np.arange(1, C) * N)
    parts = (np.split(part, cuts) for part in (pairs % N, inward, outward))
    return list(zip(*parts, strict=True))


def _taken_in(x: np.ndarray, labels: np.ndarray, lonely: np.ndarray, K: int) -> np.ndarray:
    """The labels after ``lonely`` clusters (bool [C]) joined the others by their means, the nearest first."""
    spare = min(int(lonely.sum()), len(lonely) - K)
    if spare <= 0 or lonely.all():
        return labels
    means = torch.from_numpy(cluster_means(x, labels))
    hosts, guests = np.flatnonzero(~lonely), np.flatnonzero(lonely)
    distance, index = nearest(means[guests], means[hosts])
    order = np.argsort(distance.numpy(), kind="stable")[:spare]
    joined = np.arange(len(lonely))
    joined[guests[order]] = hosts[index.numpy()[order]]
    return np.unique(joined[labels], return_inverse=True)[1].astype(np.int64)


def _merge_means(x: np.ndarray, labels: np.ndarray, K: int) -> np.ndarray:
    return (fcluster(linkage(cluster_means(x, labels), "average"), K, "maxclust") - 1)[labels].astype(np.int64)


def cluster_means(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Means float64 [C, D] of the rows x [N, D] of every cluster; labels int64 [N] from 0 to C − 1, none empty."""
    sizes = np.bincount(labels)
    members = csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(len(sizes), len(labels)))
    return (members @ x.astype(np.float64)) / sizes[:, None]
