"""`draw_in_parts` against k-means++ written out in float64, part by part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import BackendError, InputError
from pyfast_mmcl.ops.knn import draw_in_parts
from tests.check import assert_same_bits, raises_sentence
from tests.conftest import ISAS


def case(sizes, D, draws, trials=3, seed=0, weights=None):
    """Parts of some sizes with a first centre each, their mean."""
    rng = np.random.default_rng(seed)
    starts = np.append(0, np.cumsum(sizes))
    x = rng.normal(size=(starts[-1], D)).astype(np.float32)
    weights = np.ones(len(x)) if weights is None else weights(rng, len(x))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    means = np.stack([x[owner == part].mean(0) if size else x[:1].mean(0) for part, size in enumerate(sizes)])
    cost = np.square(x.astype(np.float64) - means[owner]).sum(1)
    first = np.append(0, np.cumsum(draws))
    return torch.from_numpy(x), weights, cost, starts, first, rng.random((first[-1], trials))


def drawn(x, weights, cost, *rest, backend="native"):
    cost = cost.copy()
    return draw_in_parts(x, weights, cost, *rest, backend=backend), cost


@pytest.mark.parametrize("D", [1, 7, 16, 33, 130])
def test_equals_the_reference(isa, D):
    given = case([1, 0, 15, 63, 64, 65, 129], D, [1, 0, 5, 9, 20, 40, 60])
    ours, left = drawn(*given)
    truth, expected = drawn(*given, backend="torch")
    assert np.array_equal(ours, truth) and len(np.unique(ours)) == len(ours) == 135
    np.testing.assert_allclose(left, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_costs_are_distances_to_the_nearest_drawn_row_of_the_part(isa, backend):
    x, weights, cost, starts, first, uniform = case([40, 90], 5, [7, 11])
    chosen, left = drawn(x, weights, cost, starts, first, uniform, backend=backend)
    for part in range(2):
        here, mine = slice(starts[part], starts[part + 1]), chosen[first[part] : first[part + 1]]
        assert ((mine >= here.start) & (mine < here.stop)).all()
        nearest = torch.cdist(x[here].double(), x[mine].double()).square().min(1).values.numpy()
        np.testing.assert_allclose(left[here], np.minimum(cost[here], nearest), rtol=1e-9, atol=1e-12)


def test_greedy_keeps_the_best_of_the_drawn_rows():
    x, weights, cost, starts, first, _ = case([200], 2, [1])
    uniform = np.linspace(0, 0.999, 50)[None]
    candidates = [drawn(x, weights, cost, starts, first, u[None, None])[0][0] for u in uniform[0]]
    totals = [np.minimum(cost, (x - x[row]).double().square().sum(1).numpy()).sum() for row in candidates]
    assert drawn(x, weights, cost, starts, first, uniform)[0][0] == candidates[int(np.argmin(totals))]


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_rows_without_weight_or_cost_are_never_drawn(isa, backend):
    given = case([100, 30], 3, [100, 30], weights=lambda rng, n: (np.arange(n) % 3 > 0) * rng.random(n))
    given[2][60:70] = 0.0
    chosen, cost = drawn(*given, backend=backend)
    possible = np.flatnonzero(given[1] * given[2] > 0)
    assert set(chosen[chosen >= 0]) == set(possible) and (chosen >= 0).sum() == len(possible)
    assert (chosen[len(possible[possible < 100]) : 100] == -1).all()  # a part that has run out stays so
    assert not (cost * given[1]).any()


def test_of_duplicates_one_is_drawn(isa):
    x, weights, _, starts, first, uniform = case([60], 4, [10])
    x = x[:6].repeat(10, 1)
    cost = np.full(60, 1e3)
    chosen, left = drawn(x, weights, cost, starts, first, uniform)
    assert (chosen[:6] >= 0).all() and (chosen[6:] == -1).all() and not left.any()
    assert len(np.unique(chosen[:6] % 6)) == 6


def test_the_same_bits_on_any_number_of_threads_and_any_path(monkeypatch):
    given, results = case([500, 3, 900, 1, 250], 19, [40, 3, 60, 0, 25], trials=5), []
    for isa in ISAS:
        monkeypatch.setenv("PYFAST_ISA", isa)
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(drawn(*given))
    for chosen, cost in results[1:]:
        assert np.array_equal(chosen, results[0][0])
        assert_same_bits(cost, results[0][1])


def test_errors():
    given = case([5], 2, [2])
    with raises_sentence(InputError, "float32", "float64"):
        draw_in_parts(given[0].double(), *given[1:])
    with raises_sentence(BackendError, "triton", "draw_in_parts"):
        draw_in_parts(*given, backend="triton")
