"""`nearest` and `lloyd_step` against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.ops.knn import lloyd_step, nearest
from tests.check import assert_same_bits, layouts, raises_sentence
from tests.ops.knn.truth import METRICS, SETS, assert_exact, scores


def truth_of(x, c, metric):
    s = scores(x, c, metric)
    best, labels = s.min(1) if metric == "l2" else s.max(1)
    rows = x.double()
    if metric == "cosine":
        norm = rows.norm(dim=1, keepdim=True)
        rows = torch.where(norm > 0, rows / norm, torch.zeros_like(rows))
    one_hot = torch.nn.functional.one_hot(labels, len(c)).double()
    return one_hot.T @ rows, one_hot.sum(0).long(), labels, float((best if metric == "l2" else 1 - best).sum())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 2, 31, 32, 33, 200])
def test_nearest(isa, metric, k):
    x, c = torch.randn(400, 19), torch.randn(k, 19)
    d, labels = nearest(x, c, metric=metric, backend="native")
    assert_exact(d[:, None], labels[:, None], x, c, 1, metric)


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("n, k, d", [(0, 3, 5), (1, 1, 1), (97, 10, 17), (5000, 40, 24), (300, 300, 8)])
def test_lloyd_step(isa, backend, metric, n, k, d):
    x, c = torch.randn(n, d), torch.randn(k, d)
    sums, counts, labels, inertia = lloyd_step(x, c, metric=metric, backend=backend)
    want = truth_of(x, c, metric)
    assert torch.equal(labels, want[2]) and torch.equal(counts, want[1])
    assert sums.dtype == torch.float64 and counts.dtype == labels.dtype == torch.int64
    torch.testing.assert_close(sums, want[0], rtol=1e-12, atol=1e-11)
    assert inertia == pytest.approx(want[3], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["duplicates", "offset", "all_equal", "zeros", "huge_norms", "tiny_norms", "clusters"])
def test_lloyd_step_on_adversarial_sets(isa, name):
    x = SETS[name](500, 33)
    c = x[::25].clone()
    sums, counts, labels, _ = lloyd_step(x, c, backend="native")
    want = truth_of(x, c, "l2")
    assert torch.equal(labels, scores(x, c, "l2").argmin(1)) and torch.equal(counts, want[1])
    torch.testing.assert_close(sums, want[0], rtol=1e-12, atol=0)


def test_the_same_bits_on_any_number_of_threads_and_any_path(monkeypatch):
    x, c = torch.randn(200_001, 5), torch.randn(20, 5)  # enough rows for torch to split a sum over its threads
    results = []
    for isa in ("scalar", "avx2", "avx512", "avx512_bf16"):
        monkeypatch.setenv("PYFAST_ISA", isa)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(lloyd_step(x, c, backend="native"))
    for sums, counts, labels, inertia in results[1:]:
        assert_same_bits(sums, results[0][0])
        assert_same_bits(counts, results[0][1])
        assert_same_bits(labels, results[0][2])
        assert inertia == results[0][3]


def test_layouts_dtypes_and_numpy(isa):
    x, c = torch.randn(200, 21), torch.randn(9, 21)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        want = lloyd_step(x.to(dtype), c.to(dtype), backend="native")
        for _, strided in layouts(x.to(dtype)):
            assert_same_bits(lloyd_step(strided, c.to(dtype), backend="native")[0], want[0])
    sums, counts, labels, _ = lloyd_step(x.numpy(), c.numpy())
    assert isinstance(sums, np.ndarray) and sums.dtype == np.float64 and counts.sum() == 200 and labels.shape == (200,)


def test_nan_rows_make_the_inertia_nan_and_harm_nobody_else(isa):
    x, c = torch.randn(50, 6), torch.randn(4, 6)
    clean = lloyd_step(x, c, backend="native")[2]
    x[7] = torch.nan
    _, _, labels, inertia = lloyd_step(x, c, backend="native")
    keep = torch.arange(50) != 7
    assert torch.equal(labels[keep], clean[keep]) and labels[7] == 0 and np.isnan(inertia)


def test_errors():
    x = torch.randn(5, 3)
    with raises_sentence(InputError, "at least one centre"):
        lloyd_step(x, x[:0])
    with raises_sentence(InputError, "at least one centre"):
        nearest(x, x[:0])
    with raises_sentence(UnknownNameError, "metric", "ip"):
        lloyd_step(x, x, metric="ip")
    with raises_sentence(InputError, "features"):
        lloyd_step(x, torch.randn(2, 4))
