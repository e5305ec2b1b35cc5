"""Must-links and cannot-links: groups of rows that stay together, and labels that keep linked groups apart."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from pyfast_mmcl._errors import InputError


class Links:
    """Rows that occur in links, as groups that must-links tie together and cannot-links keep apart.

    rows    [n] row numbers that have a link
    group   [n] the group of each
    apart   per group: the groups it must not share a cluster with
    """

    def __init__(self, must: Any, cannot: Any, N: int) -> None:
        must, cannot = _pairs(must, "must_link", N), _pairs(cannot, "cannot_link", N)
        self.rows = np.unique(np.concatenate([must.ravel(), cannot.ravel()]))
        n = len(self.rows)
        a, b = np.searchsorted(self.rows, must).T
        _, self.group = connected_components(coo_array((np.ones(len(must)), (a, b)), shape=(n, n)), directed=False)
        self.groups = int(self.group.max()) + 1 if n else 0
        self.apart: list[set[int]] = [set() for _ in range(self.groups)]
        for (i, j), (row, other) in zip(self.group[np.searchsorted(self.rows, cannot)], cannot, strict=True):
            if i == j:
                raise InputError(f"cannot_link names the rows {row} and {other}, which must_link ties together.")
            self.apart[i].add(int(j))
            self.apart[j].add(int(i))

    @property
    def tied(self) -> np.ndarray:
        """Numbers of the rows that must-links tie to others."""
        return self.rows[np.bincount(self.group, minlength=self.groups)[self.group] > 1]

    def __len__(self) -> int:
        return len(self.rows)

    def choose(self, cost: np.ndarray) -> np.ndarray:
        """Labels [n] of the linked rows from their costs [n, K]: cheap ones, and never two kept apart in one cluster.

        The group with the fewest clusters left goes first (as in colouring graphs), among those the one that loses
        most by its second choice; each takes the cheapest cluster that is left to it.
        """
        n, K = cost.shape
        total = csr_array((np.ones(n), (self.group, np.arange(n))), shape=(self.groups, n)) @ cost
        label = total.argmin(axis=1)
        regret = np.ptp(np.partition(total, min(1, K - 1), axis=1)[:, :2], axis=1).tolist()
        taken = np.zeros((self.groups, K), dtype=bool)  # clusters of a group's neighbours
        left = [K] * self.groups
        # A group whose neighbour takes a cluster is entered again; what it was entered with before is passed over.
        waiting = [(K, -regret[g], g) for g, others in enumerate(self.apart) if others]
        heapify(waiting)
        placed: set[int] = set()
        while waiting:
            clusters, _, g = heappop(waiting)
            if g in placed or clusters != left[g]:
                continue
            label[g] = k = self._cheapest(total, taken, g)
            placed.add(g)
            for other in self.apart[g]:
                if other not in placed and not taken[other, k]:
                    taken[other, k] = True
                    left[other] -= 1
                    heappush(waiting, (left[other], -regret[other], other))
        return label[self.group]

    def _cheapest(self, total: np.ndarray, taken: np.ndarray, g: int) -> int:
        allowed = np.where(taken[g], np.inf, total[g])
        if not np.isfinite(allowed).any():
            row = int(self.rows[np.flatnonzero(self.group == g)[0]])
            raise InputError(
                f"cannot_link: no cluster was left for row {row} among n_clusters={total.shape[1]}; ask for more "
                "clusters or drop some of its links."
            )
        return int(allowed.argmin())


def _pairs(value: Any, name: str, N: int) -> np.ndarray:
    """Pairs int64 [P, 2] of row numbers."""
    try:
        pairs = np.zeros((0, 2), dtype=np.int64) if value is None else np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} must be pairs of row numbers [P, 2], got lists of different lengths.") from error
    if pairs.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise InputError(f"{name} must be pairs of row numbers [P, 2], got {pairs.dtype} of shape {pairs.shape}.")
    if pairs.min() < 0 or pairs.max() >= N:
        raise InputError(
            f"{name} names row {int(pairs.max() if pairs.max() >= N else pairs.min())}, but X has {N} rows."
        )
    return pairs.astype(np.int64)
