"""Statistics and gradients of the pair losses in Triton against the whole matrix in float64.

On a machine with a GPU these run compiled (``pytest -m gpu``); elsewhere `test_pairs_triton.py` runs this file in a
process of its own under Triton's interpreter, which must be switched on before Triton is imported.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.check import assert_no_worse, assert_same_bits, layouts
from tests.ops.contrastive.triton_cases import DEVICE, MARKS, Matrix, ids, need_kernels, rows, small_plan

need_kernels()
pytestmark = MARKS

from pyfast_mmcl.ops.contrastive import strip_triton, tile_triton  # noqa: E402
from pyfast_mmcl.ops.contrastive._pairs import Pull, Side  # noqa: E402
from pyfast_mmcl.ops.contrastive.pairs_triton import pair_grads, pair_stats  # noqa: E402

NARROW = (torch.float16, torch.bfloat16)


def log_sum(side: Side) -> Tensor:
    return side.max.double() + side.sum.log()


def upstream(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Some gradient of each row's loss, and the share of it that every positive takes."""
    up, share = torch.rand(2, n, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    return up, up * share


def pull_of(side: Side, seed: int) -> Pull:
    up, share = upstream(len(side.max), seed)
    return Pull(side.max, (up / side.sum).float(), share)


def check(a: Tensor, b: Tensor, scale: float, row_ids: Tensor, col_ids: Tensor, plan: Any, **options: Any) -> None:
    """Both sides' statistics and, from pulls of both, the gradients: each computation with its own statistics."""
    words = {k: options[k] for k in ("exclude_self", "row_offset", "col_offset") if k in options}
    given = {"row_ids": row_ids, "col_ids": col_ids, "plan": plan, **options}
    truth = Matrix(a, b, scale, row_ids, col_ids, **words)
    plain = Matrix(a, b, scale, row_ids, col_ids, **words, wide=torch.float32)
    sides, pulls, true_pulls, rough_pulls = pair_stats(a, b, scale, **given), [], [], []
    for k, (side, (lse, pos), (rough_lse, rough_pos)) in enumerate(
        zip(sides, truth.sides(), plain.sides(), strict=True)
    ):
        if side is None:
            for empty in (pulls, true_pulls, rough_pulls):
                empty.append(empty[0])
            continue
        assert (side.max.dtype, side.sum.dtype, side.pos.dtype) == (torch.float32, torch.float64, torch.float64)
        assert_no_worse(log_sum(side), rough_lse, lse, atol=1e-6)
        assert_no_worse(side.pos, rough_pos, pos, atol=1e-6)
        pulls.append(pull_of(side, k))
        true_pulls.append(Pull(lse, *upstream(len(lse), k)))
        rough_pulls.append(Pull(rough_lse, *upstream(len(lse), k)))
    symmetric = options.get("symmetric", False)
    grads = pair_grads(a, b, scale, pulls[0], None if symmetric else pulls[1], **given)
    low = a.dtype if a.dtype in NARROW else None
    true, rough = truth.gradients(*true_pulls), plain.gradients(*rough_pulls, rounded=low)
    # Similarities are formed again, in registers by another product, whose rounding the scale enlarges.
    again = abs(scale) * 2.0**-22 if a.shape[1] <= plan.fused_d else 0.0
    for k, ours in enumerate(grads):
        if not (symmetric and k == 1):
            half = 0.5 if symmetric and k == 2 else 1.0
            atol = (2e-6 + again) * float(true[k].abs().max()) + 1e-6
            assert_no_worse(ours, rough[k] * half, true[k] * half, atol=atol)


@pytest.mark.parametrize("fused", [0, 128])
@pytest.mark.parametrize(("N", "M", "D"), [(1, 1, 1), (17, 70, 16), (97, 33, 65), (1, 40, 31)])
def test_pairs_of_two_sides(N: int, M: int, D: int, fused: int) -> None:
    check(rows(N, D), rows(M, D, seed=1), 10.0, ids(N, 5), ids(M, 5, seed=1), small_plan(fused_d=fused))


@pytest.mark.parametrize("fused", [0, 128])
@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_rows(dtype: torch.dtype, fused: int) -> None:
    a, b = rows(70, 48, dtype=dtype), rows(45, 48, seed=1, dtype=dtype)
    check(a, b, 20.0, torch.arange(70, device=DEVICE), torch.arange(45, device=DEVICE), small_plan(fused_d=fused))


@pytest.mark.parametrize("fused", [0, 128])
@pytest.mark.parametrize(("N", "classes"), [(2, 1), (33, 3), (97, 50)])
def test_symmetric_pairs_leave_out_themselves(N: int, classes: int, fused: int) -> None:
    z, labels = rows(N, 24), ids(N, classes)
    check(z, z, 8.0, labels, labels, small_plan(fused_d=fused), symmetric=True, exclude_self=True)


def test_symmetric_pairs_that_keep_themselves() -> None:
    z, labels = rows(70, 24), ids(70, 9)
    check(z, z, 8.0, labels, labels, small_plan(), symmetric=True)


@pytest.mark.parametrize(("row_offset", "col_offset"), [(0, 0), (40, 7), (3, 60)])
def test_excluded_pairs_follow_the_offsets(row_offset: int, col_offset: int) -> None:
    offsets = {"exclude_self": True, "row_offset": row_offset, "col_offset": col_offset}
    check(rows(40, 16), rows(70, 16, seed=1), 5.0, ids(40, 9), ids(70, 9, seed=1), small_plan(), **offsets)


@pytest.mark.parametrize("scale", [-3.0, 1.0, 100.0])
def test_scales_with_near_duplicates(scale: float) -> None:
    a = rows(30, 32).repeat(2, 1)[:50]
    b = torch.nn.functional.normalize(a + 1e-3 * rows(50, 32, seed=2), dim=1)
    labels = torch.arange(50, device=DEVICE)
    for fused in (0, 128):
        check(a, b, scale, labels, labels, small_plan(fused_d=fused))


@pytest.mark.parametrize("fused", [0, 128])
def test_a_scale_of_zero_has_a_slope_and_no_gradients(fused: int) -> None:
    check(rows(20, 16), rows(30, 16, seed=1), 0.0, ids(20, 3), ids(30, 3), small_plan(fused_d=fused))


@pytest.mark.parametrize("fused", [0, 128])
def test_columns_150_nats_below_the_rest(fused: int) -> None:
    # Their sums vanish beside the tile's largest entry; and the references of rows and columns lie far apart.
    a = torch.zeros(64, 32, device=DEVICE)
    a[:, 0], a[:, 1:] = 1.0, 0.05 * rows(64, 31)
    b = a.clone()
    b[[3, 40]] = -0.75 * b[[3, 40]]
    b[50:, 0] = 0.4
    labels = torch.arange(64, device=DEVICE)
    truth = Matrix(a, b, 100.0, labels, labels)
    assert float(truth.s.max() - truth.s[:, 3].max()) > 150
    check(a, b, 100.0, labels, labels, small_plan(fused_d=fused))


def test_all_rows_equal() -> None:
    a = rows(1, 16).expand(45, 16)
    labels = torch.arange(45, device=DEVICE)
    check(a, a, 100.0, labels, labels, small_plan())


def test_a_dominant_positive_leaves_a_small_loss_exact() -> None:
    # Loss = log(1 + Σ_j 2^-30 of the rest): it must not drown in the rounding of s, which is 100.
    a = torch.eye(40, device=DEVICE)
    a[:, 39] = 0.3
    labels = torch.arange(40, device=DEVICE)
    scale = 17.3
    side = pair_stats(a, a, scale, row_ids=labels, col_ids=labels, cols=False, plan=small_plan())[0]
    loss = (side.max.double() - side.pos) + side.sum.log()
    factor = float(torch.tensor(scale))
    truth = Matrix(a, a, factor, labels, labels).sides()[0]
    # One float32 sum of 40 terms near 1; in s itself a rounding would be worth thirty times more.
    torch.testing.assert_close(loss, truth[0] - truth[1], rtol=0, atol=3e-7)


def test_rows_or_columns_alone_equal_both() -> None:
    a, b, r, c = rows(50, 24), rows(77, 24, seed=1), ids(50, 9), ids(77, 9, seed=1)
    plan, given = small_plan(), {"row_ids": r, "col_ids": c, "exclude_self": True, "row_offset": 9}
    row, col = pair_stats(a, b, 7.0, plan=plan, **given)
    alone, none = pair_stats(a, b, 7.0, cols=False, plan=plan, **given)
    assert none is None
    torch.testing.assert_close(log_sum(alone), log_sum(row), rtol=1e-6, atol=1e-6)
    none, alone = pair_stats(a, b, 7.0, rows=False, plan=plan, **given)
    assert none is None
    torch.testing.assert_close(log_sum(alone), log_sum(col), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(alone.pos, col.pos, rtol=1e-6, atol=1e-6)
    assert pair_stats(a, b, 7.0, rows=False, cols=False, **given) == (None, None)


@pytest.mark.parametrize("fused", [0, 128])
def test_one_pull_and_one_gradient(fused: int) -> None:
    a, b, r, c = rows(33, 24), rows(40, 24, seed=1), ids(33, 9), ids(40, 9, seed=1)
    given = {"row_ids": r, "col_ids": c, "plan": small_plan(fused_d=fused)}
    sides = pair_stats(a, b, 7.0, **given)
    row, col = pull_of(sides[0], 0), pull_of(sides[1], 1)
    truth = Matrix(a, b, 7.0, r, c)
    for pulls in ((row, None), (None, col)):
        true = truth.gradients(*pulls)
        da, db, dscale = pair_grads(a, b, 7.0, *pulls, **given)
        for ours, expected in zip((da, db, dscale), true, strict=True):
            torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)
        for need_a, need_b in ((True, False), (False, True), (False, False)) if pulls[0] else ():
            some = pair_grads(a, b, 7.0, *pulls, need_a=need_a, need_b=need_b, **given)
            assert (some[0] is None, some[1] is None) == (not need_a, not need_b)
            assert not need_a or torch.equal(some[0], da)
            assert not need_b or torch.equal(some[1], db)
            torch.testing.assert_close(some[2], dscale, rtol=1e-6, atol=1e-7)
    nothing = pair_grads(a, b, 7.0, None, None, **given)
    assert not nothing[0].any() and not nothing[1].any() and nothing[2] == 0


@pytest.mark.parametrize(("N", "M"), [(0, 5), (5, 0), (0, 0)])
def test_empty_sides(N: int, M: int) -> None:
    given = {"row_ids": ids(N, 3), "col_ids": ids(M, 3)}
    a, b = rows(5, 8)[:N], rows(5, 8)[:M]
    sides = pair_stats(a, b, 3.0, **given)
    for side, n in zip(sides, (N, M), strict=True):
        assert torch.equal(side.max, torch.full((n,), -torch.inf, device=DEVICE))
        assert not side.sum.any() and not side.pos.any() and len(side.sum) == len(side.pos) == n
    da, db, dscale = pair_grads(a, b, 3.0, *(pull_of(s, 0) for s in sides), **given)
    assert da.shape == (N, 8) and db.shape == (M, 8) and not da.any() and not db.any() and dscale == 0


def test_a_row_with_nothing_to_compare() -> None:
    z, labels = rows(1, 8), ids(1, 1)
    side, _ = pair_stats(z, z, 3.0, row_ids=labels, col_ids=labels, symmetric=True, exclude_self=True)
    assert side.max == -torch.inf and side.sum == 0 and side.pos == 0
    pull = Pull(side.max, torch.zeros(1, device=DEVICE), torch.zeros(1, device=DEVICE))
    dz, none, dscale = pair_grads(
        z, z, 3.0, pull, None, row_ids=labels, col_ids=labels, symmetric=True, exclude_self=True
    )
    assert none is None and not dz.any() and dscale == 0


@pytest.mark.parametrize("fused", [0, 128])
def test_nan_reaches_its_row_and_every_column(fused: int) -> None:
    a, b = rows(70, 24), rows(45, 24, seed=1)
    a[66, 3] = torch.nan
    labels = torch.arange(70, device=DEVICE)
    given = {"row_ids": labels, "col_ids": labels[:45], "plan": small_plan(fused_d=fused)}
    row, col = pair_stats(a, b, 9.0, **given)
    assert torch.equal(row.sum.isnan(), labels == 66) and col.sum.isnan().all()
    da, db, dscale = pair_grads(a, b, 9.0, pull_of(row, 0), None, **given)
    assert torch.equal(da.isnan().any(1), labels == 66) and db.isnan().all() and dscale.isnan()
    b[2, 0] = torch.nan
    column = pair_stats(a[:60], b, 9.0, row_ids=labels[:60], col_ids=labels[:45], plan=small_plan())[1]
    assert torch.equal(column.sum.isnan(), labels[:45] == 2)
    nan_scale = pair_stats(a[:60], b[3:], float("nan"), row_ids=labels[:60], col_ids=labels[:42], plan=small_plan())
    assert all(side.sum.isnan().all() for side in nan_scale)


def test_layouts_and_unaligned_rows() -> None:
    a, b, labels = rows(40, 20), rows(33, 20, seed=1), torch.arange(40, device=DEVICE)
    given = {"row_ids": labels, "col_ids": labels[:33], "plan": small_plan()}
    whole = pair_stats(a, b, 9.0, **given)
    for (_, x), (_, y) in list(zip(layouts(a), layouts(b), strict=True))[1:]:
        for ours, expected in zip(pair_stats(x, y, 9.0, **given), whole, strict=True):
            assert_same_bits(ours.sum, expected.sum)
    # Rows that start in the middle of 16 bytes.
    wide = rows(41, 32, seed=2)
    odd = torch.empty(41 * 32 + 1, device=DEVICE)[1:].view(41, 32).copy_(wide)
    assert odd.data_ptr() % 16
    ids_of = {"row_ids": torch.arange(41, device=DEVICE), "col_ids": labels[:33], "plan": small_plan()}
    ours, expected = (pair_stats(x, wide[:33], 9.0, **ids_of)[0].sum for x in (odd, wide))
    assert_same_bits(ours, expected)


@pytest.mark.parametrize("fused", [0, 128])
def test_same_bits_every_time(fused: int) -> None:
    a, b, r, c = rows(70, 40), rows(33, 40, seed=1), ids(70, 9), ids(33, 9, seed=1)
    given = {"row_ids": r, "col_ids": c, "plan": small_plan(fused_d=fused)}

    def run() -> list[Tensor]:
        row, col = pair_stats(a, b, 30.0, **given)
        return [row.sum, col.sum, row.pos, *pair_grads(a, b, 30.0, pull_of(row, 0), pull_of(col, 1), **given)]

    for first, again in zip(run(), run(), strict=True):
        assert_same_bits(first, again)


@pytest.mark.parametrize("fused", [0, 128])
def test_float16_gradients_of_a_mean_over_many_rows(fused: int) -> None:
    # dS of a mean over a million rows lies below the normal numbers of float16.
    a, b = rows(40, 32, dtype=torch.float16), rows(50, 32, seed=1, dtype=torch.float16)
    labels = torch.arange(50, device=DEVICE)
    given = {"row_ids": labels[:40], "col_ids": labels}
    sides = pair_stats(a, b, 20.0, plan=small_plan(), **given)
    pulls = [Pull(s.max, (1e-6 / s.sum).float(), torch.full_like(s.max, 1e-6)) for s in sides]
    true = Matrix(a, b, 20.0, labels[:40], labels).gradients(*pulls)
    for ours, expected in zip(
        pair_grads(a, b, 20.0, *pulls, plan=small_plan(fused_d=fused), **given), true, strict=True
    ):
        assert float((ours.double() - expected).abs().max() / expected.abs().max()) < 1e-3


def test_scale_as_a_tensor_of_any_type() -> None:
    a, b, labels = rows(20, 16), rows(20, 16, seed=1), torch.arange(20, device=DEVICE)
    given = {"row_ids": labels, "col_ids": labels, "plan": small_plan()}
    expected = pair_stats(a, b, 12.5, **given)[0]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert_same_bits(pair_stats(a, b, torch.tensor(12.5, dtype=dtype), **given)[0].sum, expected.sum)


def test_precision_words() -> None:
    single, half = rows(4, 8), rows(4, 8, dtype=torch.bfloat16)
    assert tile_triton.operand_dtype("auto", single, half) == torch.float32
    assert tile_triton.operand_dtype("auto", half, single) == torch.bfloat16
    assert tile_triton.operand_dtype("auto", half.half(), half.half()) == torch.float16
    assert tile_triton.operand_dtype("auto", half.half(), single) == torch.float32
    assert tile_triton.operand_dtype("float32", half, half) == torch.float32
    assert tile_triton.operand_dtype("bfloat16", single, single) == torch.bfloat16
    assert tile_triton.dot_precision("auto", torch.float32) == "tf32x3"
    assert tile_triton.dot_precision("float32", torch.float32) == "ieee"
    a, b, labels = rows(33, 16), rows(33, 16, seed=1), torch.arange(33, device=DEVICE)
    given = {"row_ids": labels, "col_ids": labels, "plan": small_plan()}
    rounded = pair_stats(a.bfloat16(), b.bfloat16(), 9.0, **given)[0]
    assert_same_bits(pair_stats(a, b, 9.0, precision="bfloat16", **given)[0].sum, rounded.sum)
    exact = pair_stats(a.bfloat16(), b.bfloat16(), 9.0, precision="float32", **given)[0]
    torch.testing.assert_close(log_sum(exact), log_sum(rounded), rtol=1e-6, atol=1e-6)


def test_products_that_torch_cannot_add_in_place_are_added_after(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, labels = rows(70, 16, dtype=torch.float16), rows(33, 16, seed=1, dtype=torch.float16), ids(70, 9)
    given = {"row_ids": labels, "col_ids": labels[:33], "plan": small_plan()}
    pulls = [pull_of(s, k) for k, s in enumerate(pair_stats(a, b, 30.0, **given))]
    first = pair_grads(a, b, 30.0, *pulls, **given)
    monkeypatch.setattr(strip_triton, "_adds_in_float32", lambda device: False)
    for ours, expected in zip(pair_grads(a, b, 30.0, *pulls, **given), first, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)
