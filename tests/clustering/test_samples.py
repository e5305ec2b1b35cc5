"""Samples: every kind of input gives the same rows, scaled in float64, and bad ones are named."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.samples import read_samples
from tests.check import raises_sentence

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, size=(9, 3, 5, 4), dtype=np.uint8)


def rows_of(X, **how):
    samples = read_samples(X, CPU, **how)
    return samples.take(torch.arange(len(samples)))


def test_images_of_bytes_are_fractions(tmp_path):
    expected = torch.from_numpy(BYTES).float() / 255
    np.save(tmp_path / "x.npy", BYTES)
    for X in (BYTES, torch.from_numpy(BYTES), np.load(tmp_path / "x.npy", mmap_mode="r"), expected, BYTES[::-1][::-1]):
        got = rows_of(X, images=True)
        assert got.dtype == torch.float32 and torch.equal(got, expected)


def test_images_are_flattened_for_estimators_of_vectors():
    samples = read_samples(BYTES, CPU)
    assert samples.shape == (60,) and not samples.is_image
    assert torch.equal(samples.take(torch.tensor([3, 1])), torch.from_numpy(BYTES[[3, 1]]).flatten(1).float())


def test_scaled_rows_have_mean_zero_and_variance_one_and_keep_their_proportions():
    X = RNG.normal(size=(500, 4)) * [1, 2, 3, 4] + 1e9
    samples = read_samples(X, CPU)
    samples.scaling = samples.measure()
    got = samples.take(torch.arange(500)).double().numpy()
    np.testing.assert_allclose(got.mean(0), 0, atol=1e-5)
    assert got.var(0).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(got, (X - X.mean(0)) / np.sqrt(X.var(0).mean()), atol=1e-5)
    same = read_samples(np.ones((3, 2)), CPU)
    assert same.measure()[1] == 1.0


def test_limits_bring_rows_into_the_unit_interval():
    samples = read_samples(RNG.normal(size=(50, 3)) * 7 - 100, CPU)
    samples.scaling = samples.limits()
    got = samples.take(torch.arange(50))
    assert float(got.min()) == 0 and float(got.max()) == pytest.approx(1)


def test_sparse_rows_are_the_dense_ones():
    X = RNG.normal(size=(20, 6)).astype(np.float32)
    X[X < 0.5] = 0
    assert torch.equal(rows_of(csr_array(X)), rows_of(X))


def test_blocks_are_all_rows_in_order():
    samples = read_samples(RNG.normal(size=(23, 2)), CPU)
    numbers, blocks = zip(*samples.blocks(7), strict=True)
    assert torch.cat(numbers).tolist() == list(range(23))
    assert torch.equal(torch.cat(blocks), samples.take(torch.arange(23)))


def test_fingerprints_tell_rows_apart():
    X = RNG.normal(size=(30, 4))
    one = read_samples(X, CPU).fingerprint()
    assert one == read_samples(torch.from_numpy(X), CPU).fingerprint()
    assert one != read_samples(X + 1, CPU).fingerprint() and one != read_samples(X[:29], CPU).fingerprint()


@pytest.mark.parametrize("row", [1, 700, 4999])
def test_one_other_row_is_another_fingerprint(row):
    X = np.ones((5000, 2))
    other = X.copy()
    other[row, 1] = 2
    assert read_samples(X, CPU).fingerprint() != read_samples(other, CPU).fingerprint()
    assert read_samples(csr_array(X), CPU).fingerprint() == read_samples(X, CPU).fingerprint()


def spoilt(row):
    images = BYTES.astype(np.float32)
    images[row, 0, 1, 1] = np.nan
    return images


@pytest.mark.parametrize(
    ("X", "how", "words"),
    [
        (spoilt(4), {"images": True}, "row 4"),
        (spoilt(4), {}, "row 4"),
        (BYTES[:0], {"images": True}, "empty"),
        (np.zeros((5, 3)), {"images": True}, "images"),
        (csr_array(np.eye(3)), {"images": True}, "sparse"),
        (np.zeros((5, 8, 8)), {"images": True}, "X[:, None]"),
        (list(BYTES), {"images": True}, "np.stack"),
        (np.zeros((5, 9, 8)), {}, "X[:, None]"),
        (np.zeros((2, 8, 9, 3)), {"images": True}, "transpose"),
        (np.zeros((2, 6, 7, 4), dtype=np.uint8), {"images": True}, "transpose"),
        (torch.zeros(2, 28, 28, 1), {"images": True}, "permute"),
        (BYTES.astype(complex), {"images": True}, "complex"),
        (csr_array(np.diag([1.0, np.inf, 1.0])), {}, "row 1"),
        (csr_array((0, 3)), {}, "empty"),
        (csr_array(np.eye(3) * 1j), {}, "real numbers"),
    ],
)
def test_bad_input_is_named(X, how, words):
    with raises_sentence(InputError, words):
        read_samples(X, CPU, **how)


@pytest.mark.parametrize(
    "shape", [(2, 3, 8, 3), (2, 1, 5, 1), (2, 12, 64, 1), (2, 100, 3, 3), (2, 4, 9, 4), (2, 8, 8, 5)]
)
def test_few_columns_alone_are_no_channels(shape):
    samples = read_samples(np.zeros(shape), CPU, images=True)
    assert samples.shape == shape[1:]
    assert read_samples(np.zeros((2, 8, 9, 3)), CPU).shape == (216,)  # flattened, in whatever order
