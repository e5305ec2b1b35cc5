"""How input is read: precision, memory maps in blocks, unit rows, statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering import inputs
from pyfast_mmcl.clustering.inputs import read_rows
from tests.check import raises_sentence


def table(N=50, D=7, seed=0):
    return np.random.default_rng(seed).normal(size=(N, D))


def together(rows):
    return torch.cat([block for _, block in rows.blocks()])


@pytest.mark.parametrize(
    ("X", "dtype", "result"),
    [
        (table().astype(np.float32), torch.float32, torch.float32),
        (table().astype(np.float16), torch.float16, torch.float32),
        (torch.from_numpy(table()).bfloat16(), torch.bfloat16, torch.float32),
        (table(), torch.float32, torch.float64),
        (table() + 1e6, torch.float64, torch.float64),  # float32 would blur a spread of 1 at an offset of 1e6
        (np.round(100 * table()).astype(np.int64), torch.float32, torch.float32),
        (2**40 + np.arange(20)[:, None], torch.float64, torch.float64),
        (1e20 * table(), torch.float64, torch.float64),
        ((1e20 * table()).astype(np.float32), torch.float64, torch.float64),
        (1e-20 * table(), torch.float64, torch.float64),
        (np.full((4, 2), 0.1), torch.float64, torch.float64),
        (table() > 0, torch.float32, torch.float32),
    ],
)
def test_precision_follows_the_data(X, dtype, result):
    rows = read_rows(X)
    assert (rows.dtype, rows.result_dtype) == (dtype, result)
    assert together(rows).dtype == dtype
    assert rows.take(np.array([2, 0])).dtype == rows.center_dtype


def test_precision_of_a_fitted_model_is_kept():
    assert read_rows(table() + 1e6, dtype=torch.float32).dtype == torch.float32
    assert read_rows(table().astype(np.float32), dtype=torch.float64).dtype == torch.float64
    assert read_rows(table().astype(np.float16), dtype=torch.float32).dtype == torch.float16
    with raises_sentence(InputError, "1e+60", "float32"):
        read_rows(np.full((2, 2), 1e60), dtype=torch.float32)


def test_arrays_are_not_copied_without_need():
    X = table().astype(np.float32)
    [(_, block)] = read_rows(X).blocks()
    assert block.data_ptr() == X.ctypes.data
    tensor = torch.from_numpy(X).requires_grad_()
    [(_, block)] = read_rows(tensor).blocks()
    assert block.data_ptr() == tensor.data_ptr() and not block.requires_grad


def test_memory_map_is_read_in_blocks_only_where_it_must_be_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "_BLOCK_BYTES", 8 * 7 * 9)
    for dtype, blocks in ((np.float32, 1), (np.float64, 6)):
        X = table().astype(dtype)
        np.save(tmp_path / "x.npy", X)
        rows = read_rows(np.load(tmp_path / "x.npy", mmap_mode="r"))
        assert [part for part, _ in rows.blocks()][-1].stop == 50
        assert len(list(rows.blocks())) == blocks
        np.testing.assert_array_equal(together(rows).numpy(), X.astype(np.float32))
        np.testing.assert_array_equal(rows.take(np.array([49, 3])).numpy(), X[[49, 3]].astype(np.float32))
        assert len(list(rows.unit().blocks())) == 6
        np.testing.assert_array_equal(together(rows.unit()).numpy(), together(read_rows(X).unit()).numpy())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=20),
    st.integers(-130, 130),
)
def test_unit_rows(values, exponent):
    X = np.array(values) * 10.0**exponent
    unit = together(read_rows(X).unit()).double().numpy()
    norms = np.array([np.linalg.norm(row / max(np.abs(row).max(), 1e-300)) for row in X])
    zero = norms == 0
    np.testing.assert_array_equal(unit[zero], 0)
    np.testing.assert_allclose(np.linalg.norm(unit[~zero], axis=1), 1, rtol=1e-6)
    scaled = X[~zero] / np.abs(X[~zero]).max(axis=1, keepdims=True)
    np.testing.assert_allclose(unit[~zero], scaled / norms[~zero, None], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(read_rows(X).unit().nonzero, ~zero)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
@pytest.mark.parametrize("D", [1, 5])
def test_variance(offset, D, monkeypatch):
    X = table(N=200, D=D) + offset
    rows = read_rows(X)
    expected = together(rows).double().numpy().var(axis=0).mean()
    assert rows.variance() == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(inputs, "CACHE_BYTES", 8 * D * 13)
    assert rows.variance() == pytest.approx(expected, rel=1e-9)


def test_a_bad_value_is_found_in_any_block(monkeypatch):
    monkeypatch.setattr(inputs, "_BLOCK_BYTES", 8 * 7 * 9)
    for row in (0, 8, 9, 49):
        X = table()
        X[row, 3] = np.nan
        with raises_sentence(InputError, f"row {row};"):
            read_rows(X)
