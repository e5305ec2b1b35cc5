"""The screen misses no attracted row, however the product is rounded."""

import numpy as np
import pytest
import torch

from pyfast_mmcl.clustering import nearer
from pyfast_mmcl.clustering.inputs import read_rows
from pyfast_mmcl.clustering.nearer import Nearer


def attracted(X, candidates, cost):
    """Float64, by definition."""
    exact = ((X[:, None].astype(np.float64) - candidates.astype(np.float64)) ** 2).sum(-1)
    return [(np.flatnonzero(column < cost), column[column < cost]) for column in exact.T]


def cases():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(400, 33))
    yield "plain", plain
    yield "offset", plain + 1e4  # the product cancels almost entirely
    yield "huge", plain * 1e14
    yield "tiny", plain * 1e-14
    yield "mixed", plain * 10.0 ** rng.integers(-14, 14, size=(400, 1))
    yield "near-duplicates", 1 + 1e-6 * plain
    yield "one feature", plain[:, :1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", dict(cases()))
@pytest.mark.parametrize("block", [2**10, 2**26])
def test_equals_the_definition(name, dtype, block, monkeypatch):
    X = dict(cases())[name]
    monkeypatch.setattr(nearer, "_SCREEN_BYTES", block)
    monkeypatch.setattr(nearer, "_GATHER_BYTES", block)
    rows = read_rows(X.astype(dtype), dtype=torch.float64 if dtype == np.float64 else None)
    X = X.astype(dtype)
    picked = np.array([3, 77, 250])
    # Present costs: squared distances to one other row, so that about half the rows are attracted by each candidate.
    cost = ((X.astype(np.float64) - X[9].astype(np.float64)) ** 2).sum(-1)
    cost[:5] = np.inf
    exact = ((X[:, None].astype(np.float64) - X[picked].astype(np.float64)) ** 2).sum(-1)
    # Values are those of the op: a float32 distance may pass a cost that is one rounding away.
    near = np.abs(exact - np.where(np.isfinite(cost), cost, 0)[:, None]) <= 3e-7 * exact
    doubtful = np.flatnonzero(near.any(axis=1))
    found = Nearer(rows).find(rows.take(picked), cost)
    for (index, value), (true_index, true_value) in zip(found, attracted(X, X[picked], cost), strict=True):
        np.testing.assert_array_equal(np.setdiff1d(index, doubtful), np.setdiff1d(true_index, doubtful))
        both = np.isin(index, true_index)
        np.testing.assert_allclose(value[both], true_value[np.isin(true_index, index)], rtol=3e-7, atol=1e-44)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_products_change_nothing(precision):
    X = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    rows, cost = read_rows(X), np.full(2000, 110.0)
    expected = Nearer(rows).find(rows.take(np.arange(8)), cost)
    assert all(0 < len(index) < 2000 for index, _ in expected)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = Nearer(rows).find(rows.take(np.arange(8)), cost)
    finally:
        torch.set_float32_matmul_precision(before)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_screen_sorts_most_rows_out():
    rng = np.random.default_rng(0)
    X = (20 * np.eye(10)[rng.integers(10, size=3000)] + rng.normal(size=(3000, 10))).astype(np.float32)
    rows = read_rows(X)
    cost = np.full(3000, 50.0)
    [passed] = Nearer(rows)._screen(rows.take(np.array([0])), cost)
    [(index, _)] = Nearer(rows).find(rows.take(np.array([0])), cost)
    assert set(index) <= set(passed)
    assert len(passed) <= 1.01 * len(index) + 5
