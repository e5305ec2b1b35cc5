"""Shares of groups: seats handed out one by one, and the order-invariance that follows from them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import balanced_allocation
from tests.check import raises_sentence
from tests.ops.sampling.truth import seats

COUNTS = st.lists(st.integers(0, 12), max_size=8)


@settings(max_examples=150)
@given(COUNTS, st.integers(0, 60))
def test_equal_shares_are_the_seats_in_order(counts, capacity):
    ours = balanced_allocation(torch.tensor(counts, dtype=torch.int64), capacity)
    assert ours.dtype == torch.int64 and ours.tolist() == seats(counts, capacity)


@settings(max_examples=60)
@given(st.data(), COUNTS, st.integers(0, 60))
def test_weighted_shares_are_the_seats_in_order(data, counts, capacity):
    weight = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 1.0, 2.0, 3.0, 1e-9, 1e9]) | st.floats(1e-300, 1e300)
    weights = data.draw(st.lists(weight, min_size=len(counts), max_size=len(counts)))
    ours = balanced_allocation(
        torch.tensor(counts, dtype=torch.int64), capacity, weights=torch.tensor(weights, dtype=torch.float64)
    )
    assert ours.tolist() == seats(counts, capacity, weights)


@settings(max_examples=60)
@given(COUNTS.filter(len), st.integers(0, 60), st.data())
def test_a_share_never_grows_when_others_arrive(counts, capacity, data):
    before = balanced_allocation(torch.tensor(counts), capacity)
    more = [c + data.draw(st.integers(0, 5)) for c in counts]
    after = balanced_allocation(torch.tensor(more), capacity)
    full = before == torch.tensor(counts)  # had lost nothing
    assert bool((full | (after <= before)).all())
    assert int(balanced_allocation(torch.tensor(counts), capacity + 1).sub(before).min()) >= 0


def test_large_counts_and_many_groups():
    counts = torch.full((1000,), 10**9)
    shares = balanced_allocation(counts, 123_456)
    assert int(shares.sum()) == 123_456 and shares.tolist() == [124] * 456 + [123] * 544
    weights = torch.arange(1.0, 1001.0)
    shares = balanced_allocation(counts, 500_500, weights=weights)
    assert shares.tolist() == list(range(1, 1001))  # exactly proportional


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numpy_in_numpy_out(kind):
    shares = balanced_allocation(np.array([3, 0, 9], dtype=kind), 7, weights=np.array([1.0, 1.0, 2.0]))
    assert isinstance(shares, np.ndarray) and shares.dtype == np.int64 and shares.tolist() == [2, 0, 5]


@pytest.mark.parametrize("tiny", [5e-324, 1e-320, 1e-308])
def test_weights_near_the_smallest_number_leave_no_seat_empty(tiny):
    # (s − ½)/w is infinite for every s, or from some s on.
    counts, weights = [10, 10, 4, 10], [tiny, 1.0, tiny, 5e-324]
    seats = sorted(((s - 0.5) / weights[g], s, g) for g in range(4) for s in range(1, counts[g] + 1))
    for capacity in range(36):
        exact = [sum(g == group for _, _, g in seats[:capacity]) for group in range(4)]
        given = balanced_allocation(np.array(counts), capacity, weights=np.array(weights))
        assert given.tolist() == exact


def test_counts_whose_sum_overflows_are_refused():
    with raises_sentence(InputError, "counts", "2**62"):
        balanced_allocation(torch.tensor([2**62, 2**62, 5]), 10)
