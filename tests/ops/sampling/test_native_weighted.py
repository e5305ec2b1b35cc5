"""Compiled weighted keys, Gumbel top-k and alias tables against their definitions in plain torch and Python."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pyfast_mmcl import _native
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import _native_sampling as native
from pyfast_mmcl.ops.sampling import fold_seed, hash_uniform, reservoir_keys
from tests.check import raises_sentence

pytestmark = pytest.mark.skipif(not _native.available()[0], reason="the compiled kernels are missing")


def open_uniform(seed: int, index: torch.Tensor) -> torch.Tensor:
    word = (reservoir_keys(seed, index) >> 12) & ((1 << 52) - 1)
    return (word.double() + 0.5) * 2.0**-52


def plain_log(x: torch.Tensor) -> torch.Tensor:
    """The logarithm of the definition: exactly rounded operations, one at a time."""
    bits = x.view(torch.int64)
    e = ((bits >> 52) - 1023).double()
    m = ((bits & ((1 << 52) - 1)) | (1023 << 52)).view(torch.float64)
    high = m > 1.4142135623730951
    m, e = torch.where(high, m * 0.5, m), e + high
    s = (m - 1) / (m + 1)
    z, p = s * s, torch.full_like(s, 1 / 21)
    for odd in range(19, 0, -2):
        p = p * z + 1 / odd
    return e * 0.6931471805599453 + (2 * s) * p


def race(weights: torch.Tensor, k: int, seed: int, log: bool) -> list[int]:
    wait = -plain_log(open_uniform(seed, torch.arange(len(weights))))
    time = plain_log(wait) - weights if log else wait / weights
    return sorted(range(len(weights)), key=lambda i: (float(time[i]), i))[:k]


def alias_reference(weights: list[float]) -> tuple[list[float], list[int]]:
    n, total = len(weights), 0.0
    for w in weights:
        total += w
    keep, alias = [w * (n / total) for w in weights], [0] * n
    small, large = [j for j in range(n) if keep[j] < 1], [j for j in range(n) if not keep[j] < 1]
    while small and large:
        s, big = small.pop(), large.pop()
        alias[s] = big
        keep[big] = (keep[big] + keep[s]) - 1
        (small if keep[big] < 1 else large).append(big)
    for j in small + large:
        keep[j], alias[j] = (1.0, j) if weights[j] > 0 else (0.0, weights.index(max(weights)))
    return keep, alias


def test_the_logarithm_of_the_definition_is_one() -> None:
    x = open_uniform(4, torch.arange(100_000))
    torch.testing.assert_close(plain_log(x), x.log(), rtol=1e-15, atol=0)
    assert x.min() > 0 and x.max() < 1


def test_weighted_keys_have_the_bits_of_the_definition() -> None:
    index = torch.arange(5000) * 977 - 100
    weights = torch.rand(5000, dtype=torch.float64)
    weights[::7] = 0
    keys = native.weighted_keys(2**64 + 3, index, weights)
    assert torch.equal(keys, plain_log(open_uniform(2**64 + 3, index)) / weights)
    assert (keys[::7] == -math.inf).all()
    with raises_sentence(InputError, "weights", "at least 0", "position 1"):
        native.weighted_keys(0, index[:2], torch.tensor([1.0, -1.0], dtype=torch.float64))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("n", [0, 1, 17, 129, 3000])
def test_gumbel_top_k_is_the_race(n: int, log: bool) -> None:
    weights = torch.rand(n, dtype=torch.float64)
    weights[::3] = 0
    weights = weights.log() if log else weights
    for k in {0, min(n, 1), n // 2, n}:
        assert native.gumbel_top_k(weights, k, -7, log).tolist() == race(weights, k, -7, log)


def test_gumbel_top_k_does_not_depend_on_threads() -> None:
    weights = torch.rand(100_000, dtype=torch.float64)
    seen = set()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        seen.add(tuple(native.gumbel_top_k(weights, 40_000, 5).tolist()))
    assert len(seen) == 1 and list(seen.pop())[:50] == race(weights, 50, 5, False)


def test_the_second_draw_is_weighted_like_the_first() -> None:
    weights = torch.tensor([1.0, 2.0, 5.0, 0.0], dtype=torch.float64)
    counts = np.zeros((4, 4))
    for seed in range(6000):
        first, second = native.gumbel_top_k(weights, 2, seed).tolist()
        counts[first, second] += 1
    p = np.array([1, 2, 5]) / 8
    expected = np.array([p[i] * p[j] / (1 - p[i]) for i in range(3) for j in range(3) if i != j]) * 6000
    seen = [counts[i, j] for i in range(3) for j in range(3) if i != j]
    assert sum(seen) == 6000 and chisquare(seen, expected).pvalue > 1e-3


def test_refusals_of_gumbel_top_k() -> None:
    one = torch.ones(1, dtype=torch.float64)
    with raises_sentence(InputError, "k", "0 to 1", "got 2"):
        native.gumbel_top_k(one, 2, 0)
    for bad, log in ((math.nan, False), (-1.0, False), (math.inf, False), (math.nan, True), (math.inf, True)):
        with raises_sentence(InputError, "weights", "position 0"):
            native.gumbel_top_k(one * bad, 1, 0, log)
    assert native.gumbel_top_k(-one, 1, 0, log=True).tolist() == [0]


@pytest.mark.parametrize("n", [1, 2, 3, 16, 97, 1000])
def test_alias_tables_follow_their_definition_and_keep_the_weights(n: int) -> None:
    weights = torch.exp(3 * torch.randn(n, dtype=torch.float64))
    weights[1::3] = 0
    keep, alias = native.alias_build(weights)
    expected = alias_reference(weights.tolist())
    assert (keep.tolist(), alias.tolist()) == expected
    mass = keep.clone().index_add_(0, alias, 1 - keep) / n
    torch.testing.assert_close(mass, weights / weights.sum(), rtol=0, atol=1e-13)
    assert (mass[1::3] == 0).all()


@pytest.mark.parametrize("draws", [0, 1, 17, 9000])
def test_alias_draws_follow_their_definition(draws: int) -> None:
    weights = torch.rand(37, dtype=torch.float64)
    keep, alias = native.alias_build(weights)
    b = torch.arange(draws)
    seed = fold_seed(-4, 9)
    j = (hash_uniform(seed, 2 * b) * 37).long().clamp(max=36)
    expected = torch.where(hash_uniform(seed, 2 * b + 1) < keep[j], j, alias[j])
    assert torch.equal(native.alias_sample(keep, alias, draws, -4, 9), expected)


def test_refusals_of_alias_tables() -> None:
    for bad in ([0.0, 0.0], [1.0, -1.0], [math.inf, 1.0], [math.nan], [1e308, 1e308]):
        with raises_sentence(InputError, "weights"):
            native.alias_build(torch.tensor(bad, dtype=torch.float64))
    with raises_sentence(InputError, "weights", "at least one"):
        native.alias_build(torch.zeros(0, dtype=torch.float64))
