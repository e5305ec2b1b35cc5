"""Numbers whose bits are defined: the logarithm against scalar arithmetic, uniforms inside the open interval."""

import math

import torch
from scipy.stats import kstest

from pyfast_mmcl.ops.sampling import hash_uniform, reservoir_keys
from pyfast_mmcl.ops.sampling.keys import _mix, reservoir_keys_reference
from pyfast_mmcl.ops.sampling.uniform import open_uniform, portable_log
from tests.ops.sampling.truth import splitmix_key


def scalar_log(x):
    """The same steps in Python floats, which round each one."""
    m, e = math.frexp(x)
    m, e = 2 * m, e - 1
    if m > 1.4142135623730951:
        m, e = m * 0.5, e + 1
    s = (m - 1.0) / (m + 1.0)
    z, p = s * s, 1.0 / 21
    for n in range(19, 0, -2):
        p = p * z
        p = p + 1.0 / n
    return e * 0.6931471805599453 + (s * 2.0) * p


def test_logarithm_has_the_bits_of_scalar_arithmetic_and_is_right_to_a_few_ulp():
    x = torch.cat(
        [
            torch.rand(3000, dtype=torch.float64),
            torch.rand(1001, dtype=torch.float64) * 1e300,
            torch.tensor(
                [2.0**-53, 1 - 2.0**-53, 1.0, 0.5, 2.0**-1022, math.sqrt(0.5), math.sqrt(2)], dtype=torch.float64
            ),
            1 - torch.arange(1, 40, dtype=torch.float64) * 2.0**-53,
        ]
    )
    ours = portable_log(x)
    assert ours.tolist() == [scalar_log(v) for v in x.tolist()]
    exact = torch.tensor([math.log(v) for v in x.tolist()], dtype=torch.float64)
    assert bool(((ours - exact).abs() <= 4 * 2.0**-52 * exact.abs()).all())
    assert float(portable_log(torch.ones(1, dtype=torch.float64))) == 0.0


def test_logarithm_does_not_depend_on_place_or_layout():
    x = torch.rand(257, dtype=torch.float64)
    whole = portable_log(x)
    assert torch.equal(portable_log(x[::3]), whole[::3])
    assert torch.equal(torch.cat([portable_log(part) for part in x.split(5)]), whole)


def test_open_uniforms_are_the_odd_multiples_and_never_reach_an_end():
    state, ids = _mix(5), [0, 1, 2, -7, 2**62, 999]
    expected = [((splitmix_key(state, i) % 2**64 >> 12) * 2 + 1) * 2.0**-53 for i in ids]
    assert open_uniform(5, torch.tensor(ids)).tolist() == expected
    u = open_uniform(1, torch.arange(40_000))
    assert kstest(u.numpy(), "uniform").pvalue > 1e-3
    assert bool(((u > 0) & (u < 1)).all())
    # 24-bit uniforms would lie on a coarse grid
    assert bool((u * 2.0**53 % 2 == 1).all()) and float((u * 2.0**24 % 1 == 0).double().mean()) < 1e-3


def test_keys_have_the_bits_of_their_reference_in_every_layout():
    index = torch.randint(-(2**62), 2**62, (37, 12))
    for seed in (0, -5, 2**63, 2**70 + 1):
        for ids in (index, index.t(), index[::3, 1::2], index.to(torch.int32), index[:0]):
            keys = reservoir_keys(seed, ids)
            assert keys.shape == ids.shape and torch.equal(keys, reservoir_keys_reference(seed, ids))
    assert torch.equal(
        hash_uniform(1, index), (reservoir_keys_reference(1, index) >> 11 & (2**53 - 1)).double() * 2.0**-53
    )
