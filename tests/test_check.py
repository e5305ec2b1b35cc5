"""The asserts themselves: each accepts what it should and rejects what it should."""

import numpy as np
import pytest
import torch

from tests.check import (
    assert_neighbours,
    assert_no_worse,
    assert_same_bits,
    assert_same_partition,
    layouts,
    raises_sentence,
)

NAN, INF = float("nan"), float("inf")


def test_no_worse_compares_errors():
    truth = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    plain = truth + 1e-3
    assert_no_worse(truth + 2e-3, plain, truth, atol=1e-9)
    with pytest.raises(AssertionError, match="exceeds the budget"):
        assert_no_worse(truth + 2.1e-3, plain, truth, atol=1e-9)


@pytest.mark.parametrize("ours", [[1.0, NAN], [NAN, INF], [1.0, -INF], [1.0, 2.0]])
def test_no_worse_wants_special_values_in_place(ours):
    truth = torch.tensor([1.0, INF])
    assert_no_worse(truth, truth, truth, atol=0.0)
    with pytest.raises(AssertionError):
        assert_no_worse(torch.tensor(ours), truth, truth, atol=1.0)


def test_no_worse_wants_the_shape():
    with pytest.raises(AssertionError, match="shape"):
        assert_no_worse(torch.zeros(1), torch.zeros(2), torch.zeros(2), atol=1.0)


SCORES = torch.tensor([[3.0, 1.0, 1.0, NAN, INF]], dtype=torch.float64)


def test_neighbours_accept_the_float64_ranking():
    assert_neighbours([[1, 2, 0, 4, 3, -1]], SCORES, 6)
    assert_neighbours([[4, 0, 1, 2, 3]], SCORES, 5, descending=True)


@pytest.mark.parametrize(
    "indices",
    [[2, 1, 0], [1, 0, 2], [1, 1, 2], [1, 2, 3], [1, 2, -1], [1, 2, 5]],
    ids=["tie by larger index", "wrong order", "twice", "NaN early", "dropped", "out of range"],
)
@pytest.mark.parametrize("atol", [0.0, 1e-9])
def test_neighbours_reject(indices, atol):
    with pytest.raises(AssertionError):
        assert_neighbours([indices], SCORES, 3, atol=atol)


def test_neighbours_swap_only_within_rounding():
    scores = torch.tensor([[1.0, 1.0 + 1e-15, 2.0]], dtype=torch.float64)
    assert_neighbours([[1, 0]], scores, 2, atol=1e-14)
    with pytest.raises(AssertionError, match="place 0"):
        assert_neighbours([[1, 0]], scores, 2)
    with pytest.raises(AssertionError, match="place 1"):
        assert_neighbours([[0, 2]], scores, 2, atol=1e-14)


def test_same_bits_sees_signed_zero_and_dtype():
    x = torch.tensor([NAN, 0.0])
    assert_same_bits(x, x.clone())
    for other in (torch.tensor([NAN, -0.0]), x.double(), x[:1]):
        with pytest.raises(AssertionError):
            assert_same_bits(x, other)


def test_same_partition_ignores_names():
    assert_same_partition([0, 0, 1, 2], np.array([5, 5, 3, 9]))
    for other in ([0, 1, 1, 2], [0, 0, 1, 1], [0, 0, 1]):
        with pytest.raises(AssertionError):
            assert_same_partition([0, 0, 1, 2], other)


def test_raises_sentence_wants_one_line_with_the_words():
    with raises_sentence(ValueError, "expected", "got"):
        raise ValueError("expected 1, got 2")
    for text in ("expected 1", "expected 1,\ngot 2", ""):
        with pytest.raises(AssertionError), raises_sentence(ValueError, "got"):
            raise ValueError(text)


def test_layouts_hold_the_same_values():
    x = torch.arange(12.0).reshape(3, 4)
    found = dict(layouts(x))
    assert all(torch.equal(view, x) for view in found.values())
    assert [view.is_contiguous() for view in found.values()] == [True, False, False]


def test_memory_from_empty_is_poisoned():
    assert torch.empty(3).isnan().all() and torch.empty_like(torch.zeros(2)).isnan().all()
    assert torch.zeros(2).new_empty(4).isnan().all() and np.isnan(np.empty(5)).all()
    assert (torch.empty(2, dtype=torch.int64) == torch.iinfo(torch.int64).max).all()
