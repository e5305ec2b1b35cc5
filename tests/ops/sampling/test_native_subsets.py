"""Compiled herding and k-centre against float64 references, on features whose ties are exact, at awkward sizes."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfast_mmcl import _native
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import _native_sampling as native
from tests.check import raises_sentence

pytestmark = pytest.mark.skipif(not _native.available()[0], reason="the compiled kernels are missing")

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = [(1, 1), (2, 7), (15, 8), (17, 9), (33, 31), (97, 64), (300, 65)]


def herding_reference(features: torch.Tensor, m: int) -> list[int]:
    """iCaRL's greedy mean matching, written as the distance of the new mean to the mean."""
    x = features.double()
    n, chosen, total = len(x), [], torch.zeros(x.shape[1], dtype=torch.float64)
    for k in range(1, min(m, n) + 1):
        # ‖μ − (S + f)/k‖² without its constant, times n
        score = n * (x * x).sum(1) + 2 * (x @ (n * total - k * x.sum(0)))
        score[chosen] = math.inf
        tie = 2.0**-44 * k * n * float((x * x).sum(1).max())
        chosen.append(int((score <= score.min() + tie).nonzero()[0]))
        total += x[chosen[-1]]
    return chosen


def k_center_reference(features: torch.Tensor, m: int, chosen: list[int], centers: torch.Tensor) -> tuple[list, float]:
    x, chosen = features.double(), list(chosen)
    gap = torch.full((len(x),), math.inf, dtype=torch.float64)
    for c in [*centers.double(), *x[chosen]]:
        gap = torch.minimum(gap, (x - c).square().sum(1))
    while len(chosen) < m:
        open_gap = gap.clone()
        open_gap[chosen] = -1
        chosen.append(int((open_gap >= open_gap.max() * (1 - 2.0**-42)).nonzero()[0]))
        gap = torch.minimum(gap, (x - x[chosen[-1]]).square().sum(1))
    return chosen, math.sqrt(float(gap.max()))


def integers(n: int, d: int, seed: int, low: int = -3) -> torch.Tensor:
    return torch.randint(low, 4, (n, d), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, d", SHAPES)
def test_herding_picks_what_float64_picks(isa: str, dtype: torch.dtype, n: int, d: int) -> None:
    x = torch.randn(n, d).to(dtype)
    for m in {1, min(n, 5), n, n + 3}:
        order = native.herding(x, m)
        assert order.shape == (1, m)
        assert order[0].tolist() == herding_reference(x, m) + [-1] * (m - min(m, n))


@pytest.mark.parametrize("d", [1, 2, 8, 13])
def test_herding_gives_ties_to_the_smaller_index(isa: str, d: int) -> None:
    # Small integers: every score is exact, and many are equal.
    for seed in range(8):
        x = integers(60, d, seed)
        assert native.herding(x.float(), 60)[0].tolist() == herding_reference(x, 60)
    same = torch.full((20, 3), 0.1)
    assert native.herding(same, 20)[0].tolist() == list(range(20))
    for seed in range(40):  # both rows of a pair are equally near its mean, whatever rounding says
        pair = torch.randn(2, d, generator=torch.Generator().manual_seed(seed))
        assert native.herding(pair, 2)[0].tolist() == [0, 1] and native.k_center(pair, 2)[0].tolist() == [0, 1]


def test_herding_follows_the_mean(isa: str) -> None:
    # The definition itself, in exact fractions: each pick brings the mean of the chosen nearest to the mean of all.
    x = torch.randn(14, 3).half()
    rows = [[Fraction(v) for v in row] for row in x.double().tolist()]
    mean = [sum(column) / 14 for column in zip(*rows, strict=True)]
    chosen: list[int] = []
    for k in range(1, 15):

        def miss(j: int, k: int = k) -> Fraction:
            sums = [sum(rows[i][c] for i in [*chosen, j]) for c in range(3)]
            return sum((m - s / k) ** 2 for m, s in zip(mean, sums, strict=True))

        chosen.append(min((j for j in range(14) if j not in chosen), key=lambda j: (miss(j), j)))
    assert native.herding(x, 14)[0].tolist() == chosen


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), max_size=80), st.integers(0, 9), st.integers(0, 5))
def test_herding_of_groups_is_herding_of_each(labels: list[int], m: int, seed: int) -> None:
    x = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed))
    groups = torch.tensor(labels, dtype=torch.int64)
    rows = groups.argsort(stable=True)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(groups, minlength=7).cumsum(0)])
    order = native.herding(x, m, rows, offsets)
    for g in range(7):
        members = torch.nonzero(groups == g)[:, 0]
        expected = members[herding_reference(x[members], m)].tolist()
        assert order[g].tolist() == expected + [-1] * (m - len(expected))


def test_herding_and_k_center_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3000, 96)
    seen = set()
    for name in _native.info()["isas"]:
        monkeypatch.setenv("PYFAST_ISA", name)
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            chosen, radius = native.k_center(x, 12)
            seen.add((tuple(native.herding(x, 12)[0].tolist()), tuple(chosen.tolist()), radius))
    assert len(seen) == 1
    order, chosen, radius = seen.pop()
    assert list(order) == herding_reference(x, 12)
    expected, wide = k_center_reference(x, 12, [order[0]], x[:0])
    assert list(chosen) == expected and radius == pytest.approx(wide, rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, d", SHAPES)
def test_k_center_picks_what_float64_picks(isa: str, dtype: torch.dtype, n: int, d: int) -> None:
    x = torch.randn(n, d).to(dtype)
    x[n // 2 :] += 4  # clusters: distances to centres skip rows
    for first, m in {(None, 1), (0, min(n, 4)), (n - 1, n), (None, n)}:
        start = herding_reference(x, 1) if first is None else [first]
        expected, radius = k_center_reference(x, m, start, x[:0])
        chosen, ours = native.k_center(x, m, first)
        assert chosen.tolist() == expected and ours == pytest.approx(radius, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("C", [0, 1, 9])
def test_k_center_with_centers_chosen_before(isa: str, C: int) -> None:
    x, centers = torch.randn(200, 10), torch.randn(C, 10)
    for m in (0, 1, 30):
        expected, radius = k_center_reference(x, m, [] if C or not m else herding_reference(x, 1), centers)
        chosen, ours = native.k_center(x, m, None, centers)
        assert chosen.tolist() == expected and ours == pytest.approx(radius, rel=1e-13)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 4), st.integers(0, 1000))
def test_k_center_gives_ties_to_the_smaller_index(n: int, d: int, seed: int) -> None:
    # Integers on a small grid: duplicates, equal distances, and distances of exactly twice another.
    x = integers(n, d, seed, low=0)
    expected, radius = k_center_reference(x, n, [0], x[:0])
    chosen, ours = native.k_center(x.float(), n, 0)
    assert chosen.tolist() == expected and ours == radius == 0


def test_nothing_to_choose() -> None:
    empty = torch.zeros(0, 4)
    assert native.herding(empty, 3).tolist() == [[-1, -1, -1]]
    assert native.herding(torch.ones(3, 4), 0).shape == (1, 0)
    assert native.k_center(empty, 0)[1] == 0
    assert native.k_center(torch.ones(3, 4), 0)[1] == math.inf
    assert native.herding(torch.zeros(4, 0), 4).tolist() == [[0, 1, 2, 3]]


def test_refusals() -> None:
    x = torch.randn(6, 3)
    for bad in (math.nan, math.inf, -math.inf):
        y = x.clone()
        y[4, 1] = bad
        for call in (lambda y=y: native.herding(y, 2), lambda y=y: native.k_center(y, 2, 0)):
            with raises_sentence(InputError, "features", "finite", "row 4"):
                call()
        with raises_sentence(InputError, "finite"):
            native.k_center(x, 2, None, y)
    with raises_sentence(InputError, "features", "finite", "row 0"):
        native.herding(torch.full((2, 1), 1e200, dtype=torch.float64), 1)
    with raises_sentence(InputError, "m", "at most 6", "got 7"):
        native.k_center(x, 7)
    with raises_sentence(InputError, "first", "below 6", "got 6"):
        native.k_center(x, 2, 6)
    with raises_sentence(InputError, "centers", "dtype"):
        native.k_center(x, 2, None, x.double())
    with raises_sentence(InputError, "rows", "existing"):
        native.herding(x, 2, torch.tensor([6]), torch.tensor([0, 1]))
    with raises_sentence(InputError, "offsets", "ascending"):
        native.herding(x, 2, None, torch.tensor([0, 4, 2, 6]))
    with raises_sentence(InputError, "offsets", "end with"):
        native.herding(x, 2, None, torch.tensor([0, 4]))
