"""Assignments of rows to centres with bounds on the number of rows of every cluster.

An upper bound is met by an auction: a cluster with too many rows raises its price until as many as are too many would
rather go elsewhere. A lower bound is met by taking the rows that lose least by it from clusters that can spare them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.distances import every_cost, nearest_cost
from pyfast_mmcl.clustering.inputs import CACHE_BYTES, Rows, slices
from pyfast_mmcl.ops.knn import knn
from pyfast_mmcl.ops.knn.reference import accumulate

# Least raises of a price, in mean costs of a row, coarse first: a fine auction alone would creep towards its prices.
_RAISES = (4.0, 1.0, 0.25, 0.06, 0.015, 0.004, 0.001)
_COARSEST = 0.25  # of the mean squared distance between centres: an auction that begins finer may never end
_FINEST = 1e-7  # of it; less is lost in the rounding of prices
_ROUNDS = 1000  # of the auction, before what is left over goes to the nearest places still free
_CELLS = 2**24  # costs held at once when rows are placed


class _Costs:
    """Costs of rows at centres: squared distances, or 1 − cosine; the whole table where that is small."""

    def __init__(self, rows: Rows, centers: Tensor, metric: str, backend: str) -> None:
        self.rows, self.centers, self.K = rows, centers, len(centers)
        self._how = {"metric": metric, "backend": backend}
        # Products of unit vectors: 1 − cosine is half the squared distance.
        self._factor = 2.0 if metric == "cosine" else 1.0
        small = len(rows) * self.K <= _CELLS
        self._table = every_cost(rows, centers, metric=metric, backend=backend) if small else None

    def spread(self) -> float:
        """Mean cost of a centre at another."""
        centers = self.centers.double().cpu()
        return float(2 * (centers - centers.mean(dim=0)).square().sum(dim=1).mean()) / self._factor

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Cost [N] and number [N] of the nearest centre."""
        if self._table is not None:
            return self._table.min(axis=1), self._table.argmin(axis=1)
        return nearest_cost(self.rows, self.centers, metric=self._how["metric"], backend=self._how["backend"])

    def table(self, index: np.ndarray) -> np.ndarray:
        """Costs [n, K] of the rows at ``index``."""
        if self._table is not None:
            return self._table[index]
        part = Rows(self.rows.take(index), self.rows.center_dtype)
        return every_cost(part, self.centers, metric=self._how["metric"], backend=self._how["backend"])

    def choices(self, index: np.ndarray, price: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` ≤ 2 smallest costs plus prices [n, k] of the rows at ``index``, in order, and their centres.

        ``|x − c|² + p = |(x, 0) − (c, √p)|²``: prices are a further feature, and the exact search does the rest.
        """
        if self._table is not None:
            value = self._table[index] + price
            choice = np.argpartition(value, k - 1, axis=1)[:, :k] if k < self.K else np.argsort(value, axis=1)[:, :k]
            value = np.take_along_axis(value, choice, axis=1)
            order = np.argsort(value, axis=1, kind="stable")
            return np.take_along_axis(value, order, axis=1), np.take_along_axis(choice, order, axis=1)
        step = torch.from_numpy(np.sqrt(self._factor * price)).to(self.centers)
        priced = torch.cat([self.centers, step[:, None]], dim=1)
        x = torch.nn.functional.pad(self.rows.take(index), (0, 1))
        found, labels = knn(x, priced, k, metric="l2", backend=self._how["backend"])
        return found.double().cpu().numpy() / self._factor, labels.cpu().numpy()

    def at(self, index: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Cost [n] of the rows at ``index`` at given centres."""
        if self._table is not None:
            return self._table[index, labels]
        part = Rows(self.rows.take(index), self.rows.center_dtype)
        return own_cost(part, self.centers, labels, self._how["metric"])

    def to(self, index: np.ndarray, k: int) -> np.ndarray:
        """Cost [n] of the rows at ``index`` at centre k."""
        return self.at(index, np.full(len(index), k))


def sized_labels(
    rows: Rows, centers: Tensor, least: int, most: int, *, metric: str, backend: str = "auto"
) -> np.ndarray:
    """Labels int64 [N] of small total cost under which every cluster has between ``least`` and ``most`` rows.

    Needs K · least ≤ N ≤ K · most. Costs are squared distances, or 1 − cosine. Up to N least raises of a price the
    total is the smallest possible where all clusters end up full (N = K · most).

    Reference: Bertsekas, *The auction algorithm*, Annals of Operations Research 1988.
    """
    costs = _Costs(rows, centers, metric, backend)
    cost, labels = costs.nearest()
    price = np.zeros(costs.K)
    raises = _raises(float(cost.mean()), costs.spread())
    everyone, rest = np.arange(len(labels)), np.zeros(0, dtype=np.int64)
    for raise_by in raises:
        if np.bincount(labels, minlength=costs.K).max() <= most:
            rest = rest[:0]
            break
        rest = _auction(costs, labels, price, most, raise_by)
        if raise_by == raises[-1]:
            break
        # What nobody fights for is free again; the others begin near what they are worth.
        price[np.bincount(labels, minlength=costs.K) < most] = 0.0
        np.maximum(price - raise_by, 0.0, out=price)
        labels[:] = costs.choices(everyone, price, 1)[1][:, 0]
    _place(costs, labels, rest, most)
    _fill(costs, labels, least)
    return labels


def _raises(unit: float, spread: float) -> list[float]:
    """Least raises of a price, coarse first, where a row costs ``unit`` and centres are ``spread`` apart."""
    least = _FINEST * spread + float(np.finfo(np.float32).tiny)
    raises = [max(step * unit, least) for step in _RAISES]
    while raises[0] < _COARSEST * spread:
        raises.insert(0, 4 * raises[0])
    return sorted(set(raises), reverse=True)


def _auction(costs: _Costs, labels: np.ndarray, price: np.ndarray, most: int, raise_by: float) -> np.ndarray:
    """Move rows (in ``labels``) and raise prices until no cluster has more than ``most``; rows that find no place are
    returned."""
    for _ in range(_ROUNDS):
        full = np.flatnonzero(np.bincount(labels, minlength=costs.K) > most)
        if len(full) == 0:
            return np.zeros(0, dtype=np.int64)
        leaving = []
        for k in full:
            part = np.flatnonzero(labels == k)
            loss = _losses(costs, part, price, k)
            out = np.argsort(loss, kind="stable")[: len(part) - most]
            price[k] += max(float(loss[out[-1]]), 0.0) + raise_by
            leaving.append(part[out])
        moved = np.sort(np.concatenate(leaving))
        labels[moved] = costs.choices(moved, price, 1)[1][:, 0]
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=costs.K))])
    return np.sort(np.concatenate([order[starts[k] + most : starts[k + 1]] for k in range(costs.K)]))


def _losses(costs: _Costs, index: np.ndarray, price: np.ndarray, k: int) -> np.ndarray:
    """What each of the rows [n] of cluster k would lose by leaving it: its best choice elsewhere minus its own."""
    value, choice = costs.choices(index, price, 2)
    elsewhere = np.where(choice[:, 0] == k, value[:, 1], value[:, 0])
    return elsewhere - (costs.to(index, k) + price[k])


def _place(costs: _Costs, labels: np.ndarray, rest: np.ndarray, most: int) -> None:
    """Give the rows ``rest`` to the nearest clusters with room, cheapest first."""
    K = costs.K
    left = np.setdiff1d(np.arange(len(labels)), rest)
    room = most - np.bincount(labels[left], minlength=K)
    while len(rest):
        part, rest = np.split(rest, [max(1, _CELLS // K)])
        waiting = np.ones(len(part), dtype=bool)
        for cell in np.argsort(costs.table(part), axis=None, kind="stable"):
            row, k = divmod(int(cell), K)
            if waiting[row] and room[k] > 0:
                labels[part[row]], waiting[row] = k, False
                room[k] -= 1


def _fill(costs: _Costs, labels: np.ndarray, least: int) -> None:
    """Bring clusters with fewer rows up to ``least``: rows that lose least, from clusters with more than that."""
    sizes = np.bincount(labels, minlength=costs.K)
    for k in np.flatnonzero(sizes < least):
        donors = np.flatnonzero(sizes[labels] > least)
        loss = costs.to(donors, k) - costs.at(donors, labels[donors])
        for row in donors[np.argsort(loss, kind="stable")]:
            if sizes[k] == least:
                break
            if sizes[labels[row]] > least:
                sizes[labels[row]] -= 1
                labels[row] = k
                sizes[k] += 1


def own_cost(rows: Rows, centers: Tensor, labels: np.ndarray, metric: str) -> np.ndarray:
    """Cost float64 [N] of every row at the centre of its label."""
    costs = [np.zeros(0)]
    own = torch.from_numpy(labels).to(rows.device)
    for start, block in rows.blocks():
        for part in slices(block.shape, CACHE_BYTES):
            mine = own[start][part]
            square = (block[part].double() - centers[mine].double()).square().sum(dim=1)
            costs.append((square / 2 if metric == "cosine" else square).cpu().numpy())
    return np.concatenate(costs)


def label_sums(rows: Rows, centers: Tensor, labels: np.ndarray, *, metric: str) -> tuple[Tensor, Tensor, float]:
    """Sums float64 [K, D] and sizes int64 [K] of clusters with given labels, added in row order, and the total cost."""
    K, D = centers.shape
    own = torch.from_numpy(labels).to(rows.device)
    sums = torch.zeros(K, D, dtype=torch.float64, device=rows.device)
    for part, block in rows.blocks():
        sums += accumulate(block, own[part], K)[0]
    return sums, torch.bincount(own, minlength=K), float(own_cost(rows, centers, labels, metric).sum())
