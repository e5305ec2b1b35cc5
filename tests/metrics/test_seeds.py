"""Spread over seeds: against tables of Student's t, against simulation, and what one or no value gives."""

import math

import numpy as np
import pytest

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics.seeds import over_seeds, paired_difference
from tests.check import raises_sentence


def test_by_hand():
    """1 … 5: s = sqrt(10 / 4), and the printed tables give t[4, 0.975] = 2.776445."""
    found = over_seeds([1, 2, 3, 4, 5])
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert found.mean == 3 and found.sd == pytest.approx(math.sqrt(2.5)) and found.count == 5
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-6)


@pytest.mark.parametrize(("n", "t"), [(2, 12.7062), (3, 4.30265), (5, 2.77645), (10, 2.26216), (31, 2.04227)])
def test_half_width_has_the_printed_quantile(n, t):
    values = np.random.default_rng(n).normal(size=n)
    found = over_seeds(values)
    assert (found.high - found.low) / 2 == pytest.approx(t * values.std(ddof=1) / math.sqrt(n), rel=1e-5)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_covers_as_often_as_it_says(level):
    """4000 sets of five seeds: a normal quantile in place of Student's would cover 88 % instead of 95 %."""
    draws = np.random.default_rng(0).normal(7, 2, size=(4000, 5))
    covered = np.mean([found.low <= 7 <= found.high for found in (over_seeds(row, level=level) for row in draws)])
    assert covered == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 4000))


def test_one_value_has_no_spread_and_nan_stays_nan():
    one = over_seeds([0.25])
    assert one.mean == 0.25 and one.count == 1 and math.isnan(one.sd) and math.isnan(one.low) and math.isnan(one.high)
    some = over_seeds([0.25, math.nan])
    assert math.isnan(some.mean) and math.isnan(some.low) and some.count == 2
    same = over_seeds([0.5] * 3)
    assert (same.sd, same.low, same.high) == (0, 0.5, 0.5)


def test_pairs_cancel_what_a_seed_does_to_both():
    rng = np.random.default_rng(1)
    luck, noise = rng.normal(size=6), 0.01 * rng.normal(size=6)
    ours = {seed: luck[seed] + 0.1 + noise[seed] for seed in range(6)}
    other = {seed: luck[seed] for seed in range(6)}
    found = paired_difference(ours, {**other, 99: 1000.0})
    assert found.count == 6 and found.mean == pytest.approx(0.1 + noise.mean()) and found.low > 0
    assert found.sd == pytest.approx(noise.std(ddof=1))
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


@pytest.mark.parametrize("level", [0, 1, 95, math.nan, "0.95", True])
def test_levels_that_are_no_share(level):
    with raises_sentence(InputError, "level", "0.95"):
        over_seeds([1, 2], level=level)


def test_no_value_is_refused():
    with raises_sentence(InputError, "at least one"):
        over_seeds([])
