"""Exact match and token accuracy of generated answers, counted by hand."""

import pytest
import torch
from torch.nn.functional import one_hot

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics.answers import exact_match, token_accuracy
from tests.check import raises_sentence


def answered(*rows):
    return one_hot(torch.tensor(rows), 5).float()


def test_counted_by_hand():
    target = torch.tensor([[1, 2, 0], [3, 0, 0], [4, 4, 4]])
    pairs = [(answered([1, 2, 0], [3, 1, 0]), target[:2]), (answered([4, 1, 4]), target[2:])]
    assert exact_match(pairs) == pytest.approx(1 / 3)
    assert token_accuracy(pairs) == pytest.approx((2 + 1 + 2) / 6)
    assert token_accuracy(pairs, pad=4) == pytest.approx((3 + 2) / 6)


def test_what_does_not_fit_is_refused():
    with raises_sentence(InputError, "[B, S, C]", "(2, 5)"):
        token_accuracy([(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64))])
    with raises_sentence(InputError, "no padding"):
        token_accuracy([(answered([0, 0]), torch.zeros(1, 2, dtype=torch.int64))])
    with raises_sentence(InputError, "at least one row"):
        exact_match([])
