"""`PackedRows`: appending in any portions equals packing at once, and nothing is repacked."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.knn import PackedRows, knn, packed
from tests.check import assert_same_bits, raises_sentence
from tests.ops.knn.truth import METRICS, assert_exact


@pytest.mark.parametrize("metric", METRICS)
def test_appending_equals_packing_at_once(isa, metric):
    q, x = torch.randn(21, 26), torch.randn(1000, 26)
    want = knn(q, x, 8, metric=metric, backend="native")
    bank = PackedRows(x[:0], metric).pack()
    start = 0
    for size in (1, 2, 15, 16, 17, 0, 33, 400, 516):
        bank.append(x[start : start + size])
        start += size
    assert len(bank) == 1000
    for a, b in zip(knn(q, bank, 8, metric=metric, backend="native"), want, strict=True):
        assert_same_bits(a, b)


def test_search_between_appends_is_exact(isa):
    bank = PackedRows(torch.empty(0, 12))
    q, rows = torch.randn(6, 12), torch.randn(300, 12) + 5
    for start in range(0, 300, 37):
        bank.append(rows[start : start + 37])
        seen = rows[: len(bank)]
        assert_exact(*knn(q, bank, 10, backend="native"), q, seen, 10, "l2")


def test_special_rows_survive_appending(isa):
    x = torch.randn(120, 10)
    x[[3, 60, 119], 0] = torch.tensor([torch.nan, torch.inf, 1e30])
    bank = PackedRows(x[:50])
    bank.append(x[50:])
    for a, b in zip(knn(x[:9], bank, 120, backend="native"), knn(x[:9], x, 120, backend="native"), strict=True):
        assert_same_bits(a, b)


def test_the_copy_protects_from_changes_and_no_copy_shares(isa):
    x = torch.randn(50, 8)
    bank, shared = PackedRows(x), PackedRows(x, copy=False)
    want = knn(x[:5], bank, 3, backend="native")
    assert shared.rows.data_ptr() == x.data_ptr() and bank.rows.data_ptr() != x.data_ptr()
    q = x[:5].clone()
    x.zero_()
    assert_same_bits(knn(q, bank, 3, backend="native")[0], want[0])


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_dtypes_and_numpy(backend):
    for dtype in (np.float16, np.float32):
        x = np.random.default_rng(1).standard_normal((90, 7)).astype(dtype)
        bank = PackedRows(x)
        bank.append(x[:11])
        d, i = knn(x[:6], bank, 4, backend=backend)
        want = knn(x[:6], np.concatenate([x, x[:11]]), 4, backend=backend)
        assert isinstance(i, np.ndarray) and np.array_equal(i, want[1]) and np.array_equal(d, want[0])


def test_bytes_of_the_packed_form(monkeypatch):
    x = torch.randn(4096, 256)
    for isa, per_value in (("avx512_bf16", 2), ("avx2", 4)):
        monkeypatch.setenv("PYFAST_ISA", isa)
        bank = PackedRows(x).pack("native")
        per_value = per_value if isa in str(bank._packed["native"].isa) else 4
        assert 4096 * 256 * per_value <= bank.nbytes <= 4096 * 256 * per_value * 1.1 + 2**20


def test_searches_from_several_threads():
    x, q = torch.randn(3000, 32), torch.randn(64, 32)
    bank = PackedRows(x)
    want = knn(q, bank, 5)
    results: list = [None] * 6

    def work(slot: int) -> None:
        results[slot] = [knn(q, bank if slot % 2 else x, 5) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(s,)) for s in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for result in results:
        for d, i in result:
            assert_same_bits(d, want[0])
            assert_same_bits(i, want[1])


@given(st.lists(st.integers(0, 70), min_size=1, max_size=8), st.integers(1, 60), st.sampled_from(METRICS))
def test_any_portions(portions, k, metric):
    x = torch.randint(-3, 4, (sum(portions), 6), generator=torch.Generator().manual_seed(k)).float()
    bank = PackedRows(x[: portions[0]], metric)
    start = portions[0]
    for size in portions[1:]:
        bank.append(x[start : start + size])
        start += size
    q = torch.randn(4, 6, generator=torch.Generator().manual_seed(k))
    assert_exact(*knn(q, bank, k, metric=metric), q, x, k, metric)


def test_a_failed_append_leaves_the_bank_as_it_was(monkeypatch):
    x = torch.randn(1000, 6)
    bank = PackedRows(x[:50]).pack("native")
    bank._packed["other"] = object()
    real = packed._append

    def failing(backend, form, rows):
        if backend == "other":
            raise MemoryError
        real(backend, form, rows)

    monkeypatch.setattr(packed, "_append", failing)
    with pytest.raises(MemoryError):
        bank.append(x[50:])
    monkeypatch.undo()
    assert len(bank) == 50 and int(knn(x[:5], bank, 50)[1].max()) < 50
    bank.append(x[50:])
    assert_exact(*knn(x[:5], bank, 9), x[:5], x, 9, "l2")


def test_the_copy_does_not_keep_the_original_alive():
    bank = PackedRows(torch.randn(100, 8))
    assert bank.sample.untyped_storage().nbytes() == 0


def test_the_metric_is_the_banks_unless_said_otherwise():
    q, x = torch.randn(4, 9), torch.randn(60, 9)
    for metric in METRICS:
        assert_same_bits(knn(q, PackedRows(x, metric), 3)[1], knn(q, x, 3, metric=metric)[1])


def test_errors():
    bank = PackedRows(torch.randn(5, 4), "ip")
    with raises_sentence(InputError, "metric", "ip", "l2"):
        knn(torch.randn(2, 4), bank, 1, metric="l2")
    with raises_sentence(InputError, "features", "3", "4"):
        bank.append(torch.randn(2, 3))
    with raises_sentence(InputError, "float64"):
        bank.append(torch.randn(2, 4, dtype=torch.float64))
    with raises_sentence(InputError, "[rows, features]"):
        PackedRows(torch.randn(4))
    assert len(bank) == 5
