"""The centroid loop: against a plain float64 loop, monotone, with empty clusters refilled."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfast_mmcl.clustering.inputs import Rows, read_rows
from pyfast_mmcl.clustering.lloyd import block_step, lloyd, mean_update, refill_empty, runs_for
from tests.check import assert_no_worse


def plain_lloyd(X, centers, iterations):
    """Float64, in as few words as possible; clusters must not run empty."""
    for _ in range(iterations):
        labels = ((X[:, None] - centers) ** 2).sum(-1).argmin(1)
        centers = np.stack([X[labels == k].mean(0) for k in range(len(centers))])
    return centers


def odd_rows(rng, N, shape):
    X = rng.normal(size=(N, 3))
    if shape == "duplicates":
        X = np.round(X)
    if shape == "outliers":
        X[rng.random(N) < 0.2] *= 1e3
    if shape == "zeros":
        X[rng.random(N) < 0.5] = 0
    return read_rows(X.astype(np.float32))


def rows_and_start(N=300, D=5, K=8, seed=0):
    X = np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)
    rows = read_rows(X)
    return X.astype(np.float64), rows, rows.take(np.arange(K))


@pytest.mark.parametrize("D", [1, 5, 16])
def test_equals_the_plain_loop(D):
    X, rows, start = rows_and_start(D=D)
    fit = lloyd(rows, start, max_iter=4)
    assert not fit.converged and fit.n_iter == 4
    truth = plain_lloyd(X, start.double().numpy(), 4)
    rounded = truth.astype(np.float32)  # the centres are float32: no closer is possible
    assert_no_worse(fit.centers, rounded, truth, atol=1e-6)
    costs = ((X[:, None] - fit.centers.double().numpy()) ** 2).sum(-1)
    np.testing.assert_array_equal(fit.labels.numpy(), costs.argmin(1))
    np.testing.assert_array_equal(fit.counts.numpy(), np.bincount(fit.labels.numpy(), minlength=8))
    assert fit.inertia == pytest.approx(costs.min(1).sum(), rel=1e-6)


def test_stops_when_labels_repeat_or_centers_rest():
    _, rows, start = rows_and_start()
    strict = lloyd(rows, start, tol=0.0)
    assert strict.converged
    assert lloyd(rows, strict.centers).n_iter <= 2
    loose = lloyd(rows, start, tol=1e9)
    assert loose.converged and loose.n_iter == 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 40),
    st.integers(1, 12),
    st.sampled_from(["normal", "duplicates", "outliers", "zeros"]),
    st.sampled_from(["l2", "cosine"]),
)
def test_inertia_never_increases(seed, N, K, shape, metric):
    rng = np.random.default_rng(seed)
    rows = odd_rows(rng, N, shape)
    rows = rows.unit() if metric == "cosine" else rows
    # Starts outside the data leave clusters empty.
    start = torch.from_numpy(rng.normal(size=(min(K, N), 3)) * rng.choice([0.1, 10])).float()
    start = start / start.norm(dim=1, keepdim=True) if metric == "cosine" else start

    def step(rows, centers):
        return block_step(rows, centers, metric=metric)

    def update(*arguments):
        return mean_update(*arguments, metric=metric)

    fit = lloyd(rows, start, step=step, update=update, max_iter=50)
    slack = 1e-6 * (N + fit.inertias[0])
    assert all(after <= before + slack for before, after in zip(fit.inertias, fit.inertias[1:], strict=False))
    assert fit.centers.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 60),
    st.integers(1, 20),
    st.sampled_from(["normal", "duplicates", "outliers", "zeros"]),
    st.sampled_from([0.0, 1e-2]),
)
def test_compiled_runs_are_the_loop(seed, N, K, shape, tol):
    rng = np.random.default_rng(seed)
    rows = odd_rows(rng, N, shape)
    # Starts outside the data leave clusters empty.
    start = torch.from_numpy(rng.normal(size=(min(K, N), 3)) * rng.choice([0.1, 10])).float()
    ours = lloyd(rows, start, tol=tol, max_iter=8)
    loop = lloyd(rows, start, step=block_step, update=mean_update, tol=tol, max_iter=8)
    assert (ours.n_iter, ours.converged, len(ours.inertias)) == (loop.n_iter, loop.converged, len(loop.inertias))
    assert torch.equal(ours.labels, loop.labels) and torch.equal(ours.counts, loop.counts)
    torch.testing.assert_close(ours.centers, loop.centers, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.sums, loop.sums, rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(ours.inertias, loop.inertias, rtol=1e-7, atol=1e-9)


def test_offset_rows_take_the_loop():
    # Far from the origin float32 products tell nothing, and bounds would send every row to float64.
    X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    assert runs_for(read_rows(X), 5, "l2", "auto") is not None
    assert runs_for(read_rows(X + 1e4), 5, "l2", "auto") is None
    for metric, backend in (("cosine", "auto"), ("l2", "torch")):
        assert runs_for(read_rows(X), 5, metric, backend) is None


def state(X, labels, centers):
    X, labels = torch.tensor(X, dtype=torch.float32), torch.tensor(labels)
    centers = torch.tensor(centers, dtype=torch.float32)
    sums = torch.zeros(centers.shape, dtype=torch.float64).index_add_(0, labels, X.double())
    return Rows(X, torch.float32), centers, sums, torch.bincount(labels, minlength=len(centers)), labels


def test_empty_clusters_get_the_farthest_rows_in_order():
    X = [[0.0], [1.0], [9.0], [2.0], [-8.0]]
    rows, centers, sums, counts, labels = state(X, [0] * 5, [[0.0], [100.0], [200.0]])
    sums, counts = refill_empty(rows, centers, sums, counts, labels, metric="l2", backend="auto")
    assert sums.flatten().tolist() == [3.0, 9.0, -8.0]
    assert counts.tolist() == [3, 1, 1]


def test_farthest_rows_tie_by_smaller_index():
    rows, centers, sums, counts, labels = state([[1.0], [-1.0], [1.0]], [0] * 3, [[0.0], [100.0]])
    sums, _ = refill_empty(rows, centers, sums, counts, labels, metric="l2", backend="auto")
    assert sums.flatten().tolist() == [0.0, 1.0]


def test_a_cluster_is_never_robbed_of_its_only_row():
    # Row 0 is the farthest of all, but alone in its cluster.
    X, labels = [[50.0], [0.0], [3.0]], [0, 1, 1]
    rows, centers, sums, counts, labels = state(X, labels, [[40.0], [0.0], [900.0]])
    sums, counts = refill_empty(rows, centers, sums, counts, labels, metric="l2", backend="auto")
    assert sums.flatten().tolist() == [50.0, 0.0, 3.0]
    assert counts.tolist() == [1, 1, 1]


def test_rows_on_their_centers_stay():
    rows, centers, sums, counts, labels = state([[1.0]] * 4, [0] * 4, [[1.0], [7.0]])
    sums, counts = refill_empty(rows, centers, sums, counts, labels, metric="l2", backend="auto")
    assert sums.flatten().tolist() == [4.0, 0.0]
    assert counts.tolist() == [4, 0]
