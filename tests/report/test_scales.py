"""Axes hold their values between round ticks."""

import numpy as np
import pytest

from pyfast_mmcl.report import scales


@pytest.mark.parametrize("seed", range(20))
def test_ticks_are_round_even_and_around_the_values(seed):
    rng = np.random.default_rng(seed)
    values = (10.0 ** rng.integers(-4, 6) * rng.normal(size=rng.integers(1, 9))).tolist()
    scale = scales.linear(values, 0, 100)
    ticks = [value for value, _ in scale.ticks]
    steps = np.diff(ticks)
    assert scale.low <= min(values) and max(values) <= scale.high and steps == pytest.approx(steps[0])
    assert 2 <= len(ticks) <= 12 and (scale(scale.low), scale(scale.high)) == (0, 100)
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6
    read = [float(words.replace("−", "-")) for _, words in scale.ticks]
    assert read == pytest.approx(ticks, abs=1e-9 * abs(steps[0]))


def test_words_of_ticks():
    assert [words for _, words in scales.linear([-0.12, 0.3], 0, 1).ticks] == [
        "−0.2",
        "−0.1",
        "0.0",
        "0.1",
        "0.2",
        "0.3",
    ]
    assert [words for _, words in scales.whole(25, 0, 1).ticks] == ["1", "4", "7", "10", "13", "16", "19", "22", "25"]
    assert [words for _, words in scales.whole(1, 0, 1).ticks] == ["1"]


def test_costs_are_by_ratio_only_where_they_spread():
    assert not scales.cost([1, 19], 0, 1).log and not scales.cost([0, 1000], 0, 1).log
    wide = scales.cost([0.02, 3000], 0, 1)
    assert wide.log and wide.low <= 0.02 and wide.high >= 3000 and wide(wide.low) == 0 and wide(wide.high) == 1
    assert [words for _, words in wide.ticks] == ["0.01", "0.1", "1", "10", "100", "1,000", "10,000"]
    assert [words for _, words in scales.cost([2e-6, 3e-4], 0, 1).ticks] == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001"]
    assert wide(10.0) - wide(1.0) == pytest.approx(wide(1.0) - wide(0.1))
    assert scales.cost([0.0, 0.0], 0, 1)(0.0) == 0
