"""Herding against its definition: without rounding on whole numbers, pick by pick on real ones."""

import math

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import herding
from tests.check import layouts, raises_sentence
from tests.ops.sampling.truth import assert_herding, herding_of_integers


@pytest.mark.parametrize(
    "n, d, high", [(1, 1, 3), (2, 3, 2), (15, 2, 3), (16, 1, 4), (17, 33, 2), (65, 4, 3), (40, 97, 9)]
)
def test_whole_numbers_are_ranked_without_rounding(backend, n, d, high):
    # few different values: true ties and repeated rows at almost every pick
    for seed in range(4):
        rows = torch.randint(-high, high + 1, (n, d), generator=torch.Generator().manual_seed(seed))
        expected = herding_of_integers(rows.tolist(), n)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            assert herding(rows.to(dtype), n, backend=backend).tolist() == expected


@pytest.mark.parametrize("n, d", [(16, 1), (63, 5), (129, 31), (300, 64), (97, 513)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_pick_brings_the_mean_nearest(backend, n, d, dtype):
    features = (torch.randn(n, d) + 0.5).to(dtype)
    assert_herding(herding(features, n, backend=backend).tolist(), features)


def test_of_equal_rows_the_first_is_picked_first(backend):
    features = torch.randn(40, 37)[torch.randint(40, (200,))]
    order = herding(features, 200, backend=backend).tolist()
    assert_herding(order, features)
    same = (features[:, None] == features[None]).all(2)
    place = torch.empty(200).long()
    place[torch.tensor(order)] = torch.arange(200)
    assert all(place[i] < place[j] for i, j in same.triu(1).nonzero().tolist())
    assert herding(torch.ones(50, 3), 50, backend=backend).tolist() == list(range(50))


@pytest.mark.parametrize("normalize", [False, True])
def test_groups_are_herded_each_on_its_own(backend, normalize):
    sizes = {0: 33, 2: 1, 3: 120, 5: 7, 6: 0}  # groups 1 and 4 are empty
    groups = torch.cat([torch.full((n,), g) for g, n in sizes.items()])
    groups = groups[torch.randperm(len(groups))]
    features = torch.randn(len(groups), 19)
    order = herding(features, 20, groups=groups, normalize=normalize, backend=backend)
    assert order.shape == (6, 20) and order.dtype == torch.int64
    for group in range(6):
        rows = (groups == group).nonzero().flatten()
        alone = rows[herding(features[rows], 20, normalize=normalize, backend=backend)]
        assert order[group].tolist() == alone.tolist() + [-1] * (20 - len(alone))


def test_a_shorter_order_is_the_beginning(backend):
    features, groups = torch.randn(150, 12), torch.randint(4, (150,))
    whole, by_group = herding(features, 150, backend=backend), herding(features, 60, groups=groups, backend=backend)
    assert whole.sort().values.tolist() == list(range(150))
    for m in (0, 1, 2, 17, 149):
        assert torch.equal(herding(features, m, backend=backend), whole[:m])
    for m in (0, 1, 9):
        assert torch.equal(herding(features, m, groups=groups, backend=backend), by_group[:, :m])


def test_normalized_rows_are_unit_rows_and_zero_stays_zero(backend):
    features = torch.randn(80, 24) * torch.rand(80, 1) * 10
    features[5] = 0
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    assert_herding(herding(features, 80, normalize=True, backend=backend).tolist(), unit)
    scaled = features * (2.0 ** torch.randint(-3, 4, (80, 1)))
    assert torch.equal(
        herding(scaled, 80, normalize=True, backend=backend), herding(features, 80, normalize=True, backend=backend)
    )


def test_low_precision_is_herded_as_the_numbers_it_holds(backend):
    for dtype in (torch.bfloat16, torch.float16):
        features = torch.randn(120, 65).to(dtype)
        expected = herding(features.double(), 120, backend=backend)
        assert torch.equal(herding(features, 120, backend=backend), expected)


def test_layouts_threads_and_numpy(backend):
    features = torch.randn(300, 40)
    expected = herding(features, 60, backend=backend)
    for name, x in layouts(features):
        assert torch.equal(herding(x, 60, backend=backend), expected), name
    torch.set_num_threads(3)
    assert torch.equal(herding(features, 60, backend=backend), expected)
    array = herding(features.numpy(), 60, backend=backend)
    assert isinstance(array, np.ndarray) and array.tolist() == expected.tolist()
    by_group = herding(features.numpy(), 3, groups=np.arange(300, dtype=np.int32) % 7, backend=backend)
    assert isinstance(by_group, np.ndarray) and by_group.shape == (7, 3)


def test_sums_are_float64(backend):
    # Two thousand numbers lie so close that a mean of float32 precision picks others.
    features = torch.rand(2000, 1) + 30
    assert_herding(herding(features, 300, backend=backend).tolist(), features)


def test_a_far_away_cloud_is_still_herded(backend):
    # ‖f‖² is 10⁴ times the differences that decide
    features = torch.randn(200, 16) * 1e-2 + 1.0
    assert_herding(herding(features, 100, backend=backend).tolist(), features)


def test_exemplars_follow_the_mean_better_than_chance(backend):
    features = torch.randn(1000, 32)
    picks = features[herding(features, 20, backend=backend)].mean(0) - features.mean(0)
    chance = (32 / 20) ** 0.5  # root mean square distance of the mean of 20 random rows
    assert picks.norm() < 0.25 * chance


@pytest.mark.parametrize("n", [0, 1, 15, 17, 97])
def test_awkward_sizes(backend, n):
    features = torch.randn(n, 3)
    assert herding(features, 5, backend=backend).shape == (min(5, n),)
    groups = torch.zeros(n, dtype=torch.int64)
    assert herding(features, 5, groups=groups, backend=backend).shape == (min(n, 1), 5)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"features": torch.ones(3)}, ["features", "[3]"]),
        ({"features": torch.ones(3, 2).long()}, ["features", "int64"]),
        ({"features": torch.tensor([[1.0], [float("nan")], [0.0]])}, ["features", "row 1"]),
        ({"m": -1}, ["m", "-1"]),
        ({"m": 1.5}, ["m", "1.5"]),
        ({"groups": torch.tensor([0, -1, 0])}, ["groups", "-1"]),
        ({"groups": torch.tensor([0, 1])}, ["groups", "3", "2"]),
        ({"groups": torch.ones(3)}, ["groups", "float32"]),
        ({"normalize": "yes"}, ["normalize", "yes"]),
        ({"features": [[1.0]]}, ["features", "list"]),
    ],
)
def test_refusals(backend, arguments, words):
    with raises_sentence(InputError, *words):
        herding(**({"features": torch.ones(3, 2), "m": 2, "backend": backend} | arguments))


def test_backends_agree_also_where_only_rounding_could_tell():
    pytest.importorskip("pyfast_mmcl._C")
    mirrored = torch.randn(40, 23)
    features = torch.cat([mirrored, -mirrored, mirrored.flip(1), torch.randn(33, 23)])
    groups = torch.arange(len(features)) % 9
    for normalize in (False, True):
        slow, fast = (herding(features, 120, normalize=normalize, backend=b) for b in ("torch", "native"))
        assert torch.equal(slow, fast)
        slow, fast = (herding(features, 9, groups=groups, normalize=normalize, backend=b) for b in ("torch", "native"))
        assert torch.equal(slow, fast)
    pair = torch.randn(2, 7)  # both are equally near their mean
    assert herding(pair, 1, backend="torch").tolist() == herding(pair, 1, backend="native").tolist() == [0]


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_rows_of_any_length_are_brought_to_length_one(backend, scale):
    rows = torch.randn(20, 5, dtype=torch.float64)
    order = herding(rows, 20, normalize=True, backend=backend)
    assert torch.equal(herding(rows * 2.0 ** round(math.log2(scale)), 20, normalize=True, backend=backend), order)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_is_refused_before_it_is_brought_to_length_one(backend, bad):
    with raises_sentence(InputError, "features", "row 1"):
        herding(torch.tensor([[1.0, 2.0], [1.0, bad]]), 1, normalize=True, backend=backend)


def test_squared_norms_that_overflow_are_refused(backend):
    rows = torch.ones(4, 3, dtype=torch.float64)
    rows[2] = 1e200
    with raises_sentence(InputError, "features", "squared norm", "row 2"):
        herding(rows, 2, backend=backend)
