"""The Triton search against exhaustive float64 ranking.

On a machine with a GPU these run compiled (``pytest -m gpu``); elsewhere `test_search_triton.py` runs this file in a
process of its own under Triton's interpreter, which must be switched on before Triton is imported.
"""

import pytest
import torch

from tests.ops.knn.triton_cases import DEVICE, MARKS, METRICS, draw, need_kernels, truth

need_kernels()
pytestmark = MARKS

from pyfast_mmcl.ops.knn import bank_triton, exact_cuda  # noqa: E402
from pyfast_mmcl.ops.knn.bank_triton import PackedTriton  # noqa: E402
from pyfast_mmcl.ops.knn.scan_triton import Plan  # noqa: E402
from pyfast_mmcl.ops.knn.search_triton import knn_triton, nearest_triton  # noqa: E402

PLAN = Plan(block_n=16, block_m=32, block_d=32, capacity=128, seed=64, growth=2)
TIGHT = Plan(block_n=16, block_m=16, block_d=16, capacity=16, seed=16, growth=8)


def check(q: torch.Tensor, x: torch.Tensor, k: int, metric: str, plan: Plan | None = PLAN, exclude_self: bool = False):
    """The same ids as the truth, and distances that are its rounding to float32."""
    distances, ids = PackedTriton(x, metric, plan).search(q, k, exclude_self)
    scores, best = truth(q, x, k, metric, exclude_self)
    assert torch.equal(ids, best), f"{int((ids != best).sum())} of {ids.numel()} ids differ"
    torch.testing.assert_close(
        distances.double(), scores.to(distances.dtype).double(), rtol=1e-6, atol=1e-12, equal_nan=True
    )
    return distances, ids


@pytest.fixture
def rungs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which rungs of the ladder above the first scan were climbed."""
    climbed: list[str] = []
    rescan, exhaustive = bank_triton.rescan, bank_triton.exhaustive

    def spy_rescan(queries, *args, **kwargs):
        climbed.append(str(queries.image.dtype).removeprefix("torch."))
        return rescan(queries, *args, **kwargs)

    def spy_exhaustive(*args, **kwargs):
        climbed.append("exhaustive")
        return exhaustive(*args, **kwargs)

    monkeypatch.setattr(bank_triton, "rescan", spy_rescan)
    monkeypatch.setattr(bank_triton, "exhaustive", spy_exhaustive)
    return climbed


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("N", "M", "D", "k"), [(1, 1, 1, 1), (15, 33, 16, 33), (17, 97, 31, 5), (33, 200, 64, 1), (3, 129, 97, 10)]
)
def test_equals_float64_ranking(metric: str, N: int, M: int, D: int, k: int, rungs: list[str]) -> None:
    check(draw(N, D, seed=1), draw(M, D, seed=2), k, metric)
    if D > 1:
        assert rungs == [], "random rows need no second scan"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    distances, _ = check(draw(9, 24, dtype=dtype), draw(70, 24, seed=1, dtype=dtype), 4, "l2")
    assert distances.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_default_plan_and_functional_form() -> None:
    q, x = draw(5, 20), draw(90, 20, seed=1)
    for metric in METRICS:
        _, ids = knn_triton(q, x, 3, metric=metric)
        assert torch.equal(ids, truth(q, x, 3, metric)[1])


@pytest.mark.parametrize("k", [1, 39, 40, 45])
@pytest.mark.parametrize("metric", METRICS)
def test_k_up_to_and_beyond_the_database(k: int, metric: str) -> None:
    distances, ids = check(draw(4, 8), draw(40, 8, seed=1), k, metric)
    assert (ids[:, 40:] == -1).all()
    assert (distances[:, 40:] == (torch.inf if metric == "l2" else -torch.inf)).all()


def test_k_beyond_the_screened_range_is_ranked_exhaustively(monkeypatch: pytest.MonkeyPatch, rungs: list[str]) -> None:
    monkeypatch.setattr(bank_triton, "LARGEST_SCREENED_K", 8)
    check(draw(4, 8), draw(50, 8, seed=1), 9, "l2")
    assert rungs == ["exhaustive"]


def test_empty_sides() -> None:
    x = draw(7, 5)
    distances, ids = knn_triton(x[:0], x, 3)
    assert distances.shape == ids.shape == (0, 3)
    distances, ids = knn_triton(x, x[:0], 2, metric="ip")
    assert (ids == -1).all() and (distances == -torch.inf).all()
    assert [len(part) for part in nearest_triton(x[:0], x)] == [0, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_exclude_self(metric: str) -> None:
    x = draw(60, 12)
    x[7] = x[3]
    _, ids = check(x, x, 4, metric, exclude_self=True)
    assert (ids != torch.arange(60, device=DEVICE)[:, None]).all()
    check(x[:3], x[:3], 3, metric, exclude_self=True)


def test_ties_go_to_the_smaller_index() -> None:
    x = draw(12, 10).repeat(8, 1)
    _, ids = check(x[:12], x, 8, "l2")
    assert torch.equal(ids[3], torch.arange(3, 96, 12, device=DEVICE))


@pytest.mark.parametrize("metric", METRICS)
def test_near_duplicates(metric: str) -> None:
    x = draw(6, 32).repeat(16, 1)
    check(draw(5, 32, seed=3), x * (1 + 1e-7 * draw(96, 32, seed=4)), 7, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_offset_1e4(metric: str, rungs: list[str]) -> None:
    check(draw(6, 32) + 1e4, draw(120, 32, seed=1) + 1e4, 5, metric)
    if metric == "l2":
        assert rungs == [], "centring makes an offset harmless"


@pytest.mark.parametrize("metric", METRICS)
def test_all_rows_equal(metric: str, rungs: list[str]) -> None:
    x = draw(1, 9).expand(150, 9)
    _, ids = check(draw(3, 9, seed=1), x, 4, metric, plan=TIGHT)
    assert torch.equal(ids, torch.arange(4, device=DEVICE).expand(3, 4))
    assert rungs == ["float16", "float32", "exhaustive"]


def test_a_query_at_the_mean_of_the_database() -> None:
    x = draw(50, 8, seed=1)
    x = torch.cat([x, -x])
    for metric in METRICS:
        check(torch.zeros(2, 8, device=DEVICE), x, 5, metric)


def test_zero_rows_and_zero_queries() -> None:
    x = draw(50, 8)
    x[::3] = 0
    for metric in METRICS:
        check(torch.cat([draw(3, 8, seed=1), torch.zeros(1, 8, device=DEVICE)]), x, 20, metric)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_huge_and_tiny_norms(scale: float, metric: str, rungs: list[str]) -> None:
    q, x = draw(5, 16) * scale, draw(80, 16, seed=1) * scale
    _, ids = PackedTriton(x, metric, PLAN).search(q, 4)
    assert torch.equal(ids, truth(q, x, 4, metric)[1])
    assert rungs == [], "scaling by a power of two makes the magnitude harmless"


@pytest.mark.parametrize("metric", METRICS)
def test_mixed_norms(metric: str) -> None:
    # Sixty binary orders within one database and between the sides.
    x = draw(90, 16, seed=1) * torch.logspace(-9, 9, 90, device=DEVICE)[torch.randperm(90).to(DEVICE), None]
    q = draw(8, 16) * torch.logspace(-12, 12, 8, device=DEVICE)[:, None]
    check(q, x, 6, metric)


@pytest.mark.parametrize("length", [1e14, 1e15, 1e25])
def test_queries_so_long_that_float64_rounding_decides(length: float) -> None:
    # The distances differ by a few units in the last place of float64: the bound must cover its rounding as well.
    q, x = length * draw(6, 8), draw(100, 8, seed=1)
    own = torch.full((6,), -1, device=DEVICE)
    _, ids = PackedTriton(x, "l2", PLAN).search(q, 5)
    assert torch.equal(ids, exact_cuda.exhaustive(q, x, 5, "l2", own)[1])


@pytest.mark.parametrize(("metric", "offset"), [("ip", 1e14), ("cosine", 1e14), ("l2", 1e14)])
def test_rows_so_close_that_float64_rounding_decides(metric: str, offset: float) -> None:
    q, x = draw(6, 8, dtype=torch.float64), offset + draw(100, 8, seed=1, dtype=torch.float64)
    q = q if metric == "ip" else q + offset
    own = torch.full((6,), -1, device=DEVICE)
    _, ids = PackedTriton(x, metric, PLAN).search(q, 5)
    assert torch.equal(ids, exact_cuda.exhaustive(q, x, 5, metric, own)[1])


@pytest.mark.parametrize("scale", [1e-310, 1e-160, 1e140, 1e300])
def test_float64_beyond_the_range_of_float32(scale: float) -> None:
    q, x = draw(4, 12, dtype=torch.float64) * scale, draw(60, 12, seed=1, dtype=torch.float64) * scale
    for metric in ("l2", "ip"):
        _, ids = PackedTriton(x, metric, PLAN).search(q, 3)
        assert torch.equal(ids, truth(q, x, 3, metric)[1])


def test_denormals() -> None:
    q, x = draw(4, 12) * 1e-41, draw(60, 12, seed=1) * 1e-41
    _, ids = PackedTriton(x, "l2", PLAN).search(q, 3)
    assert torch.equal(ids, truth(q, x, 3, "l2")[1])


@pytest.mark.parametrize("metric", METRICS)
def test_rows_and_queries_that_are_not_finite(metric: str, rungs: list[str]) -> None:
    x = draw(100, 12)
    x[3, 2], x[11], x[40, 5] = torch.nan, torch.inf, -torch.inf
    # One in every tile: it must not spoil the bound that its tile shares.
    x[50, 1], x[80, 0], x[99] = torch.nan, torch.nan, torch.nan
    q = draw(6, 12, seed=1)
    q[2, 1], q[4, 0] = torch.nan, torch.inf
    distances, _ = check(q, x, 100, metric)
    assert not distances[0, :94].isnan().any(), "NaN never before a number"
    assert "exhaustive" in rungs
    check(q, x, 5, metric, plan=TIGHT)


def test_only_rows_that_are_not_finite() -> None:
    x = draw(20, 6)
    x[:, 0] = torch.nan
    check(draw(3, 6), x, 25, "l2")


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_one_row_far_longer_than_the_rest_is_ranked_beside_the_survivors(metric: str, rungs: list[str]) -> None:
    x = draw(64, 8)
    x[5] *= 1e8
    check(draw(4, 8, seed=1), x, 64, metric)
    check(draw(4, 8, seed=1), x, 3, metric)
    assert rungs == ["exhaustive", "exhaustive"], "once per search, for the one row"


def test_overflow_reruns_with_room_then_in_float32_then_exhaustively(rungs: list[str]) -> None:
    # Rows at right angles to the query but for 2e-4 of their length: closer than float16 can tell, not float32.
    x = torch.nn.functional.normalize(draw(180, 16, seed=4), dim=1)
    x[:, 0] = 2e-4 * torch.linspace(0, 1, 180, device=DEVICE)[torch.arange(180, device=DEVICE) * 77 % 180]
    check(torch.eye(16, device=DEVICE)[:1], x, 2, "ip", plan=TIGHT)
    assert rungs == ["float16", "float32"]
    rungs.clear()
    check(draw(2, 2), draw(40, 2).repeat(4, 1), 10, "l2", plan=TIGHT)
    assert rungs and set(rungs) == {"float16"}, "a larger buffer was enough"


def test_rows_sorted_by_cluster_still_give_a_useful_seed(rungs: list[str]) -> None:
    centers = 50 * draw(8, 16, seed=5)
    x = centers.repeat_interleave(25, 0) + draw(200, 16, seed=6)
    check(centers + 1, x, 5, "l2")
    assert rungs == []


def test_float32_blocks_cover_the_database_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    # 16 columns of float32 are 64 bytes: seven rows per block, and a small candidate workspace as well.
    monkeypatch.setattr(bank_triton, "WORKSPACE_BYTES", 7 * 64)
    x = draw(1, 9).repeat(40, 1)
    x[17:] += 1
    check(x[:2], x, 3, "l2", plan=TIGHT)


def test_strided_and_sliced_inputs() -> None:
    wide = draw(160, 50)
    q, x = draw(40, 12, seed=1).T[:, :20], wide[1::2, 3:43:2]
    assert not q.is_contiguous() and not x.is_contiguous()
    for metric in METRICS:
        check(q, x, 4, metric)


def test_queries_in_many_blocks_equal_queries_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    q, x = draw(40, 8), draw(90, 8, seed=1)
    whole = PackedTriton(x, "l2", PLAN).search(q, 3, exclude_self=True)
    monkeypatch.setattr(bank_triton, "WORKSPACE_BYTES", 11 * 24 * PLAN.capacity)
    parts = PackedTriton(x, "l2", PLAN).search(q, 3, exclude_self=True)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
