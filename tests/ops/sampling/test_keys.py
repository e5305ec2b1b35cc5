"""Hash keys: the published splitmix64 numbers, distinct, uniform, the same in torch and NumPy."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import fold_seed, hash_uniform, reservoir_keys
from pyfast_mmcl.ops.sampling.keys import _mix
from tests.check import raises_sentence

WORD = (1 << 64) - 1


def splitmix(state):
    """The published generator, step by step, in Python integers."""
    state = (state + 0x9E3779B97F4A7C15) & WORD
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return state, z ^ (z >> 31)


def test_mix_gives_the_published_first_outputs():
    # First outputs of the reference splitmix64 for seed 1234567.
    state, outputs = 1234567, []
    for _ in range(3):
        state, z = splitmix(state)
        outputs.append(z)
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert _mix(1234567) == outputs[0]


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_keys_equal_the_integer_definition(seed):
    state = _mix(seed)
    for index in (1, 2, 3, 1000, 2**40):
        expected = splitmix((state + (index - 1) * 0x9E3779B97F4A7C15) & WORD)[1]
        assert int(reservoir_keys(seed, torch.tensor([index]))) & WORD == expected


def test_numpy_and_torch_agree_and_keys_are_distinct():
    index = torch.arange(100_000)
    keys = reservoir_keys(3, index)
    assert keys.unique().numel() == index.numel()
    assert np.array_equal(reservoir_keys(3, index.numpy()), keys.numpy())
    assert not torch.equal(reservoir_keys(4, index), keys)


def test_uniforms_pass_kolmogorov_smirnov():
    values = hash_uniform(11, torch.arange(50_000))
    assert values.min() >= 0 and values.max() < 1
    assert kstest(values.numpy(), "uniform").pvalue > 1e-3


def test_folded_seeds_differ_by_every_part_of_the_path():
    paths = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2, 7, 1), (7, 2, 1)]
    seeds = {fold_seed(seed, *path) for seed in (0, 1) for path in paths}
    assert len(seeds) == 2 * len(paths) and all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_that_is_no_whole_number_is_refused():
    for seed in (0.5, "x", None, True):
        with pytest.raises(InputError, match="seed: expected a whole number"):
            fold_seed(seed, 1)
        with pytest.raises(InputError, match="seed: expected a whole number"):
            reservoir_keys(seed, torch.arange(3))
    assert fold_seed(np.int64(3), 1) == fold_seed(3, 1)


@pytest.mark.parametrize("index", [torch.rand(3), np.zeros(3), [1, 2], torch.ones(3, dtype=torch.bool)])
def test_bad_index_is_refused(index):
    with pytest.raises(InputError, match="integer example ids"):
        reservoir_keys(0, index)


def test_arrays_as_users_have_them():
    ids = np.arange(3)
    ids.flags.writeable = False
    expected = reservoir_keys(1, torch.arange(3)).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(reservoir_keys(1, ids), expected)
    one = reservoir_keys(1, np.array(2))
    assert one.shape == () and one == expected[2]
    assert np.array_equal(hash_uniform(1, ids), hash_uniform(1, torch.arange(3)).numpy())
    for bad in (ids.astype(object), ids.astype(">i8"), torch.ones(2, dtype=torch.complex64), ids.astype(bool)):
        with raises_sentence(InputError, "index"):
            reservoir_keys(1, bad)


def test_a_path_takes_numbers_of_numpy():
    assert fold_seed(1, np.int64(-3), np.uint8(7)) == fold_seed(1, -3, 7)
    with raises_sentence(InputError, "step", "1.5"):
        fold_seed(1, 1.5)
