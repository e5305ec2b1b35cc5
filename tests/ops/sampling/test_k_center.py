"""Greedy farthest points against the definition without rounding, and their promise of twice the best radius."""

import itertools
import math

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import k_center
from tests.check import layouts, raises_sentence
from tests.ops.sampling.truth import farthest_points


@pytest.mark.parametrize("n, d", [(1, 1), (2, 3), (15, 2), (16, 1), (17, 33), (33, 4), (48, 40)])
def test_whole_numbers_are_ranked_without_rounding(backend, n, d):
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        rows, old = torch.randint(-3, 4, (n, d), generator=generator), torch.randint(-3, 4, (3, d), generator=generator)
        for options in ({}, {"first": n // 2}, {"centers": old}):
            expected, radius = farthest_points(
                rows.tolist(), n // 2 + 1, **{k: v.tolist() if k == "centers" else v for k, v in options.items()}
            )
            for dtype in (torch.float32, torch.float64, torch.float16):
                given = {k: v.to(dtype) if k == "centers" else v for k, v in options.items()}
                indices, found = k_center(rows.to(dtype), n // 2 + 1, backend=backend, **given)
                assert indices.tolist() == expected and math.isclose(found, math.sqrt(radius), rel_tol=1e-15)


def test_real_rows_pick_by_pick(backend):
    features = torch.randn(300, 37)
    indices, radius = k_center(features, 60, backend=backend)
    f = features.double()
    assert indices[0] == (f - f.mean(0)).square().sum(1).argmin()
    for k in range(1, 61):
        nearest = (f[:, None] - f[indices[:k]]).square().sum(2).amin(1)
        if k < 60:
            assert nearest[indices[k]] >= nearest.max() * (1 - 1e-12)
    assert math.isclose(radius, float(nearest.max().sqrt()), rel_tol=1e-12)


def test_radius_is_at_most_twice_the_best(backend):
    features = torch.randn(14, 2)
    distance = torch.cdist(features.double(), features.double())
    best = min(float(distance[:, list(c)].amin(1).max()) for c in itertools.combinations(range(14), 3))
    for first in range(14):
        assert k_center(features, 3, first=first, backend=backend)[1] <= 2 * best * (1 + 1e-12)


def test_equal_rows_are_picked_once_each_and_in_order(backend):
    features = torch.tensor([[0.0], [1.0], [0.0], [1.0], [5.0]]).repeat(1, 20)
    indices, radius = k_center(features, 9, backend=backend)
    assert indices.tolist() == [1, 4, 0, 2, 3] and radius == 0.0
    assert k_center(torch.zeros(4, 2), 4, first=2, backend=backend)[0].tolist() == [2, 0, 1, 3]


def test_centers_that_are_there_already(backend):
    features = torch.randn(100, 8)
    whole, radius = k_center(features, 30, backend=backend)
    indices, same = k_center(features, 20, centers=features[whole[:10]], backend=backend)
    assert torch.equal(indices, whole[10:]) and same == radius
    assert k_center(features, 0, centers=features[:1], backend=backend)[1] == pytest.approx(
        float((features.double() - features[0].double()).norm(dim=1).max())
    )
    assert torch.equal(k_center(features, 5, centers=features[:0], backend=backend)[0], whole[:5])


def test_layouts_threads_numpy_and_precision(backend):
    features = torch.randn(257, 33)
    expected, radius = k_center(features, 40, backend=backend)
    for name, x in layouts(features):
        assert torch.equal(k_center(x, 40, backend=backend)[0], expected), name
    torch.set_num_threads(3)
    indices, same = k_center(features, 40, backend=backend)
    assert torch.equal(indices, expected) and same == radius
    array, same = k_center(features.numpy(), 40, backend=backend)
    assert isinstance(array, np.ndarray) and array.tolist() == expected.tolist() and same == radius
    half = features.bfloat16()
    assert torch.equal(k_center(half, 40, backend=backend)[0], k_center(half.double(), 40, backend=backend)[0])


def test_backends_agree():
    pytest.importorskip("pyfast_mmcl._C")
    features = torch.randn(500, 70)
    assert torch.equal(k_center(features, 99, backend="torch")[0], k_center(features, 99, backend="native")[0])


@pytest.mark.parametrize("n", [0, 1, 15, 17])
def test_awkward_sizes(backend, n):
    indices, radius = k_center(torch.randn(n, 3), 20, backend=backend)
    assert indices.sort().values.tolist() == list(range(n)) and radius == 0.0
    assert k_center(torch.randn(n, 3), 0, backend=backend)[1] == (math.inf if n else 0.0)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"features": torch.ones(3)}, ["features", "[3]"]),
        ({"features": torch.tensor([[1.0, 2.0], [math.inf, 0.0]])}, ["features", "row 1"]),
        ({"m": -2}, ["m", "-2"]),
        ({"first": 4}, ["first", "below 4", "4"]),
        ({"first": -1}, ["first", "-1"]),
        ({"centers": torch.ones(2, 3)}, ["centers", "3", "2"]),
        ({"centers": torch.ones(2, 2).double()}, ["centers", "float64"]),
        ({"centers": torch.full((1, 2), math.nan)}, ["centers", "row 0"]),
        ({"centers": torch.ones(1, 2), "first": 0}, ["first", "centers"]),
    ],
)
def test_refusals(backend, arguments, words):
    with raises_sentence(InputError, *words):
        k_center(**({"features": torch.ones(4, 2), "m": 2, "backend": backend} | arguments))


def test_centers_of_another_dtype_keep_their_values(backend):
    rows = torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16)
    radius = k_center(rows, 0, centers=torch.tensor([[1.001, 0.0]]), backend=backend)[1]
    assert radius == pytest.approx(0.001, rel=1e-3)
    far = torch.tensor([[1e6, 0.0]])  # no number of float16
    assert k_center(torch.zeros(3, 2).half(), 0, centers=far, backend=backend)[1] == 1e6


def test_squared_norms_that_overflow_are_refused(backend):
    rows = torch.ones(4, 3, dtype=torch.float64)
    with raises_sentence(InputError, "centers", "squared norm", "row 1"):
        k_center(rows, 2, centers=torch.tensor([[0.0] * 3, [1e200] * 3], dtype=torch.float64), backend=backend)
    rows[2] = 1e200
    with raises_sentence(InputError, "features", "squared norm", "row 2"):
        k_center(rows, 2, backend=backend)
