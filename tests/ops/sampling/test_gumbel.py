"""Gumbel-top-k: the order of drawing against its exact probabilities, and weights at the ends of their range."""

import math

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import gumbel_top_k
from pyfast_mmcl.ops.sampling.keys import _mix
from tests.check import raises_sentence
from tests.ops.sampling.test_uniform import scalar_log
from tests.ops.sampling.truth import assert_equal_chances, assert_frequencies, draw_order_probabilities, splitmix_key


@pytest.mark.parametrize("log", [False, True])
def test_orders_have_their_exact_probabilities(backend, log):
    weights = torch.tensor([1.0, 5.0, 0.5, 2.0])
    exact = draw_order_probabilities(weights.tolist(), 3)
    counts = dict.fromkeys(exact, 0)
    for seed in range(1500):
        counts[
            tuple(gumbel_top_k(weights.log() if log else weights, 3, seed=seed, log=log, backend=backend).tolist())
        ] += 1
    assert_frequencies(list(counts.values()), list(exact.values()))


def test_equal_weights_give_equal_chances(backend):
    counts = torch.zeros(40)
    for seed in range(800):
        counts[gumbel_top_k(torch.ones(40), 7, seed=seed, backend=backend)] += 1
    assert_equal_chances(counts, 800, 7)


def test_the_definition_row_by_row(backend):
    weights = (torch.rand(200, dtype=torch.float64) ** 5).tolist()
    u = [((splitmix_key(_mix(11), i) % 2**64 >> 12) + 0.5) * 2.0**-52 for i in range(200)]
    race = [-scalar_log(v) / (w / max(weights)) for v, w in zip(u, weights, strict=True)]
    expected = sorted(range(200), key=lambda i: (race[i], i))
    ours = gumbel_top_k(torch.tensor(weights).double(), 200, seed=11, backend=backend)
    assert ours.tolist() == expected
    gumbel = [math.log(w) - math.log(-math.log(v)) for v, w in zip(u, weights, strict=True)]
    assert expected[:50] == sorted(range(200), key=lambda i: -gumbel[i])[:50]
    logs = gumbel_top_k(torch.tensor(weights).double().log(), 200, seed=11, log=True, backend=backend)
    assert logs.tolist() == expected


@pytest.mark.parametrize("n", [1, 15, 16, 17, 63, 65, 129, 5000])
def test_fewer_draws_are_the_first_ones(backend, n):
    weights = torch.rand(n)
    whole = gumbel_top_k(weights, n, seed=4, backend=backend)
    assert whole.sort().values.tolist() == list(range(n))
    for k in {0, 1, n // 2, n - 1}:
        assert torch.equal(gumbel_top_k(weights, k, seed=4, backend=backend), whole[:k])


def test_scale_does_not_matter_and_extremes_are_drawn_last(backend):
    weights = torch.rand(300, dtype=torch.float64)
    plain = gumbel_top_k(weights, 300, seed=2, backend=backend)
    for power in (-1000, 1000):
        assert torch.equal(gumbel_top_k(weights * 2.0**power, 300, seed=2, backend=backend), plain)
    shifted = gumbel_top_k(weights.log() + 2.0**40, 20, seed=2, log=True, backend=backend)
    assert shifted.tolist()[0] in plain.tolist()[:20] and len(set(shifted.tolist())) == 20
    mixed = torch.tensor([0.0, 5e-324, 1e308, 0.0, 1.0, 1e308], dtype=torch.float64)
    order = gumbel_top_k(mixed, 4, seed=0, backend=backend).tolist()
    assert set(order[:2]) == {2, 5} and order[2:] == [4, 1]


def test_weight_zero_is_never_drawn(backend):
    weights = torch.rand(100) * (torch.arange(100) % 2)
    assert bool((gumbel_top_k(weights, 50, seed=1, backend=backend) % 2 == 1).all())
    assert bool((gumbel_top_k(weights.log(), 50, seed=1, log=True, backend=backend) % 2 == 1).all())


def test_threads_kinds_and_layouts(backend):
    weights = torch.rand(20_001)
    expected = gumbel_top_k(weights, 100, seed=3, backend=backend)
    torch.set_num_threads(3)
    assert torch.equal(gumbel_top_k(weights, 100, seed=3, backend=backend), expected)
    wide = torch.stack([weights, -weights], 1)[:, 0]
    assert torch.equal(gumbel_top_k(wide, 100, seed=3, backend=backend), expected)
    array = gumbel_top_k(weights.numpy(), 100, seed=3, backend=backend)
    assert isinstance(array, np.ndarray) and array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "weights, k, log, words",
    [
        ([1.0, 0.0, 2.0], 3, False, ["k", "at most 2", "AliasTable"]),
        ([0.0, -math.inf], 2, True, ["k", "at most 1"]),
        ([1.0, -2.0], 1, False, ["entry 1", "-2"]),
        ([math.nan, 1.0], 1, False, ["entry 0", "nan"]),
        ([math.inf, 1.0], 1, True, ["entry 0", "inf"]),
        ([1.0], -1, False, ["k", "-1"]),
        ([[1.0]], 1, False, ["weights", "[1, 1]"]),
        ([], 1, False, ["k", "at most 0"]),
    ],
)
def test_refusals(backend, weights, k, log, words):
    with raises_sentence(InputError, *words):
        gumbel_top_k(torch.tensor(weights), k, seed=0, log=log, backend=backend)


def test_a_weight_of_minus_zero_is_a_weight_of_zero(backend):
    weights = torch.tensor([1.0, -0.0, 2.0, -0.0])
    assert sorted(gumbel_top_k(weights, 2, seed=0, backend=backend).tolist()) == [0, 2]


def test_logarithms_at_the_ends_of_float64_come_before_those_of_zero(backend):
    logs = torch.tensor([-torch.inf, -1e308, 1e308], dtype=torch.float64)
    assert gumbel_top_k(logs, 2, seed=0, log=True, backend=backend).tolist() == [2, 1]
