"""Growing banks, nearest rows and k-means sums in Triton, and the bound that every proof rests on.

On a machine with a GPU these run compiled (``pytest -m gpu``); elsewhere `test_search_triton.py` runs this file in a
process of its own under Triton's interpreter, which must be switched on before Triton is imported.
"""

from collections.abc import Callable

import pytest
import torch

from tests.ops.knn.triton_cases import DEVICE, MARKS, METRICS, draw, need_kernels, truth

need_kernels()
pytestmark = MARKS

from pyfast_mmcl._errors import InputError  # noqa: E402
from pyfast_mmcl.ops.knn import filter_triton, pack_triton, scan_triton  # noqa: E402
from pyfast_mmcl.ops.knn import nearest_triton as nearest_module  # noqa: E402
from pyfast_mmcl.ops.knn.bank_triton import PackedTriton  # noqa: E402
from pyfast_mmcl.ops.knn.nearest_triton import label_sums  # noqa: E402
from pyfast_mmcl.ops.knn.scan_triton import Plan  # noqa: E402
from pyfast_mmcl.ops.knn.search_triton import lloyd_step_triton, nearest_triton  # noqa: E402

PLAN = Plan(block_n=16, block_m=32, block_d=32, capacity=128, seed=64, growth=2)


@pytest.mark.parametrize("metric", METRICS)
def test_appended_bank_equals_a_bank_built_at_once(metric: str) -> None:
    x = draw(100, 12)
    x[60, 1] = torch.nan
    bank = PackedTriton(x[:40].clone(), metric, PLAN)
    for part in (x[40:41], x[41:41], x[41:90], x[90:]):
        bank.append(part)
    assert len(bank) == 100
    assert torch.equal(bank.search(x[:9], 6)[1], truth(x[:9], x, 6, metric)[1])


def test_appending_leaves_earlier_images_and_the_given_tensor_alone() -> None:
    x = draw(30, 12)
    bank = PackedTriton(x, "l2", PLAN)
    before, image = x.clone(), bank._packed().image.clone()
    bank.append(draw(20, 12, seed=1) + 100)
    assert torch.equal(x, before) and torch.equal(bank._packed().image[:30], image)


def test_bank_that_starts_empty() -> None:
    bank = PackedTriton(draw(0, 6), "l2", PLAN)
    x = draw(33, 6, seed=2)
    bank.append(x[:0])
    bank.append(x)
    assert bank.rows.data_ptr() == x.data_ptr(), "the first rows are not copied"
    assert bank.nbytes == 33 * (16 * 2 + 16)
    assert torch.equal(bank.search(x[:4], 3)[1], truth(x[:4], x, 3, "l2")[1])


def test_appended_rows_keep_their_precision() -> None:
    x, more = draw(20, 6, dtype=torch.float16), draw(20, 6, seed=1)
    bank = PackedTriton(x, "l2", PLAN)
    bank.append(more)
    whole = torch.cat([x.float(), more])
    assert torch.equal(bank.rows, whole)
    assert torch.equal(bank.search(whole[:9], 3)[1], truth(whole[:9], whole, 3, "l2")[1])


def test_bank_refuses_foreign_rows() -> None:
    bank = PackedTriton(draw(5, 6), "l2")
    with pytest.raises(InputError, match=r"expected shape \[m, 6\]"):
        bank.append(draw(5, 7))
    with pytest.raises(InputError, match='"cosine"'):
        PackedTriton(draw(5, 6), "hamming")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("N", "K", "D"), [(1, 1, 3), (33, 5, 16), (50, 100, 20)])
def test_nearest_equals_float64_ranking(metric: str, N: int, K: int, D: int) -> None:
    x, centers = draw(N, D), draw(K, D, seed=1)
    distances, labels = PackedTriton(centers, metric, PLAN).nearest(x)
    scores, best = truth(x, centers, 1, metric)
    assert torch.equal(labels, best[:, 0])
    torch.testing.assert_close(distances.double(), scores[:, 0], rtol=1e-6, atol=1e-12)


def test_nearest_with_ties_near_ties_and_rows_that_are_not_finite() -> None:
    centers = draw(20, 8).repeat(3, 1)
    centers[20:40] *= 1 + 1e-7
    x = torch.cat([draw(30, 8, seed=1), centers[:5]])
    assert torch.equal(PackedTriton(centers, "l2", PLAN).nearest(x)[1], truth(x, centers, 1, "l2")[1][:, 0])
    centers[4, 0], x[2, 0], x[3] = torch.nan, torch.nan, torch.inf
    assert torch.equal(PackedTriton(centers, "l2", PLAN).nearest(x)[1], truth(x, centers, 1, "l2")[1][:, 0])


@pytest.mark.parametrize("programs", [1, 512])
@pytest.mark.parametrize("apart", [16, 32])
def test_nearest_of_two_almost_equal_rows(apart: int, programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The two stand in one tile of 32, in two tiles of one program, or in two programs: none may be overlooked.
    monkeypatch.setattr(nearest_module, "_PROGRAMS", programs)
    base = 10 * draw(apart, 8, seed=2)
    centers = torch.cat([base, base * (1 + 1e-6 * draw(apart, 1, seed=3))])
    x = base[torch.arange(40, device=DEVICE) % apart] + 0.1 * draw(40, 8, seed=4)
    labels = PackedTriton(centers, "l2", PLAN).nearest(x)[1]
    assert torch.equal(labels, truth(x, centers, 1, "l2")[1][:, 0])
    assert (labels < apart).any() and (labels >= apart).any()


def test_nearest_row_may_be_one_that_the_scan_skips() -> None:
    centers, x = draw(30, 8), draw(20, 8, seed=1)
    centers[4] *= 1e8
    labels = PackedTriton(centers, "ip", PLAN).nearest(x)[1]
    assert torch.equal(labels, truth(x, centers, 1, "ip")[1][:, 0]) and (labels == 4).any()


def test_clear_winners_are_proven_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    centers = 10 * torch.eye(16, device=DEVICE)
    bank = PackedTriton(centers, "l2", PLAN)
    monkeypatch.setattr(bank, "_search", None)
    labels = bank.nearest(centers.repeat(3, 1) + 0.1 * draw(48, 16))[1]
    assert torch.equal(labels, torch.arange(16, device=DEVICE).repeat(3))


def test_nearest_splits_of_the_bank_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centers = draw(20, 8), draw(150, 8, seed=1)
    many = nearest_triton(x, centers)
    monkeypatch.setattr(nearest_module, "_PROGRAMS", 1)
    one = nearest_triton(x, centers)
    assert all(torch.equal(a, b) for a, b in zip(many, one, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_label_sums(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_module, "SEGMENT_ROWS", 7)
    x = draw(60, 70, dtype=dtype)[:, :67]
    labels = torch.arange(60, device=DEVICE) ** 2 % 11  # some labels stay empty
    sums, counts = label_sums(x, labels, 12)
    expected = torch.zeros(12, 67, dtype=torch.float64, device=DEVICE).index_add_(0, labels, x.double())
    assert torch.equal(counts, torch.bincount(labels, minlength=12)) and (counts == 0).any()
    torch.testing.assert_close(sums, expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(sums, label_sums(x, labels, 12)[0]), "the same bits every time"


def test_label_sums_of_nothing() -> None:
    sums, counts = label_sums(draw(0, 5), torch.empty(0, dtype=torch.int64, device=DEVICE), 3)
    assert (sums == 0).all() and sums.shape == (3, 5) and (counts == 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_the_public_functions_run_on_this_backend(metric: str) -> None:
    from pyfast_mmcl.ops.knn import PackedRows, knn, lloyd_step, nearest

    q, x = draw(12, 6), draw(40, 6, seed=1)
    best = truth(q, x, 3, metric)[1]
    assert torch.equal(knn(q, x, 3, metric=metric, backend="triton")[1], best)
    bank = PackedRows(x[:30], metric)
    assert torch.equal(knn(q, bank, 3, metric=metric, backend="triton")[1], truth(q, x[:30], 3, metric)[1])
    bank.append(x[30:])
    assert torch.equal(knn(q, bank, 3, metric=metric, backend="triton")[1], best)
    assert torch.equal(nearest(q, x, metric=metric, backend="triton")[1], best[:, 0])
    groups = (torch.arange(12, device=DEVICE) % 2, torch.arange(40, device=DEVICE) % 2)
    _, ids = knn(q, x, 3, metric=metric, groups=groups, backend="triton")
    assert torch.equal(ids[1], truth(q[1:2], x[1::2], 3, metric)[1][0] * 2 + 1)
    if metric != "ip":
        sums, counts, labels, inertia = lloyd_step(q, x[:5], metric=metric, backend="triton")
        expected = lloyd_step_triton(q, x[:5], metric=metric)
        assert all(torch.equal(a, b) for a, b in zip((sums, counts, labels), expected[:3], strict=True))
        assert inertia == pytest.approx(float(expected[3].sum()), rel=1e-12)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_lloyd_step(metric: str) -> None:
    x, centers = draw(50, 9), draw(6, 9, seed=1)
    x[7] = 0
    sums, counts, labels, costs = lloyd_step_triton(x, centers, metric=metric)
    scores, best = truth(x, centers, 1, metric)
    rows = x.double() if metric == "l2" else torch.nn.functional.normalize(x.double(), dim=1)
    expected = torch.zeros(6, 9, dtype=torch.float64, device=DEVICE).index_add_(0, labels, rows)
    assert torch.equal(labels, best[:, 0]) and torch.equal(counts, torch.bincount(labels, minlength=6))
    torch.testing.assert_close(sums, expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(costs, scores[:, 0] if metric == "l2" else 1 - scores[:, 0], rtol=1e-12, atol=1e-12)


def test_lloyd_step_refuses_inner_products() -> None:
    with pytest.raises(InputError, match='got "ip"'):
        lloyd_step_triton(draw(4, 3), draw(2, 3), metric="ip")


def one_sign(N: int, D: int, seed: int) -> torch.Tensor:
    """Products of one sign throughout: an accumulator that truncates errs in one direction D times."""
    sign = torch.where(torch.arange(N, device=DEVICE) % 2 == 0, 1.0, -1.0)
    return sign[:, None] * (1 + 0.3 * draw(N, D, seed=seed).abs())


def cancelling(N: int, D: int, seed: int) -> torch.Tensor:
    """Large terms that cancel and leave a sum of small ones."""
    large = 50 * torch.where(torch.arange(D, device=DEVICE) % 2 == 0, 1.0, -1.0)
    return large * (torch.arange(N, device=DEVICE) % 2 * 2 - 1)[:, None] + draw(N, D, seed=seed)


def spread(N: int, D: int, seed: int) -> torch.Tensor:
    return draw(N, D, seed=seed) * torch.logspace(-3, 3, N, device=DEVICE)[:, None] + 1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("rows", "D"), [(spread, 3), (spread, 64), (spread, 700), (one_sign, 640), (one_sign, 2048), (cancelling, 640)]
)
def test_error_bound_holds_for_every_pair(metric: str, dtype: torch.dtype, rows: Callable, D: int) -> None:
    # The proof rests on this: |true score - machine score| <= bound, here for every pair of a seed scan.
    q, x = rows(6, D, 0), rows(32, D, 1)
    frame = pack_triton.fit_frame(x, metric)
    bank, queries = pack_triton.pack(x, frame, dtype), pack_triton.pack(q, frame, dtype, query=True)
    bounds = scan_triton.query_bounds(queries, frame, dtype)
    plan = Plan(block_n=16, block_m=32, block_d=min(64, frame.padded), capacity=32, seed=32)
    floor = torch.full((6,), -torch.inf, device=DEVICE)
    out = filter_triton.Survivors.empty(floor, 32)
    own = torch.full((6,), -1, dtype=torch.int32, device=DEVICE)
    filter_triton._launch(queries, bounds, own, bank, out, plan, base=0, first=0, last=1, tiles=1, step=1, seed=True)
    a, b = q.double(), x.double()
    if metric == "cosine":
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    b = b - frame.mean[:D]
    if metric == "l2":
        a = a - frame.mean[:D]
    up = torch.ldexp(torch.ones(6, dtype=torch.float64, device=DEVICE), -queries.exponent)
    down = 2.0**-frame.exponent
    score = (a * up[:, None]) @ (b * down).T
    if metric == "l2":
        score = score - 0.5 * (b * down).square().sum(1) * (up / down)[:, None]
    low, high = out.low.double(), out.high.double()
    assert (low <= score).all() and (score <= high).all()
    size = (a.norm(dim=1) * up)[:, None] * (b.norm(dim=1) * down) + score.abs()
    assert (high - low <= (3e-3 if dtype == torch.float16 else 1e-3) * size + 1e-6).all(), "useful bounds"
