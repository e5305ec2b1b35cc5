"""What every backend must give: the sums of a block of the matrix of pairs, wherever the block lies in it."""

from __future__ import annotations

import pytest
import torch

from pyfast_mmcl.ops.contrastive import _pairs, pairs_torch
from pyfast_mmcl.ops.contrastive._pairs import KLPull, Pull

SHAPES = [(1, 1, 1), (17, 33, 5), (65, 64, 40), (129, 15, 97), (40, 130, 16)]


def close(got, expected, tolerance: float = 2e-5) -> None:
    """Equal up to float32 rounding of values of order 1 … 100; both None or neither."""
    assert (got is None) == (expected is None)
    if got is not None:
        size = max(1.0, expected.abs().max().item() if expected.numel() else 1.0)
        torch.testing.assert_close(got.double(), expected.double(), rtol=1e-4, atol=tolerance * size)


def lse(side) -> torch.Tensor:
    return side.max.double() + side.sum.log()


@pytest.fixture(params=SHAPES, ids=lambda s: "x".join(map(str, s)))
def block(request):
    """Rows, columns and ids of a block that lies 5 rows and 9 columns into the whole."""
    n, m, d = request.param
    rows, cols = torch.randint(0, 6, (n,)) * 2**33, torch.randint(0, 6, (m,)) * 2**33
    place = {"row_ids": rows, "col_ids": cols, "exclude_self": True, "row_offset": 9, "col_offset": 5}
    return torch.randn(n, d), torch.randn(m, d), place


@pytest.mark.parametrize("rows, cols", [(True, True), (True, False), (False, True)])
def test_statistics(block, rows, cols, backend):
    a, b, place = block
    got = _pairs.pair_stats(a, b, 1.7, **place, rows=rows, cols=cols, backend=backend)
    expected = pairs_torch.pair_stats(a.double(), b.double(), 1.7, **place, rows=rows, cols=cols)
    for ours, true in zip(got, expected, strict=True):
        assert (ours is None) == (true is None)
        if ours is not None:
            close(lse(ours), lse(true))
            close(ours.pos, true.pos)


@pytest.mark.parametrize("need_a, need_b", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("sides", ["both", "rows", "columns"])
def test_gradients(block, sides, need_a, need_b, backend):
    a, b, place = block
    pulls = [Pull(torch.full((len(x),), 4.0), torch.rand(len(x)), torch.rand(len(x))) for x in (a, b)]
    row, col = (pulls[0] if sides != "columns" else None), (pulls[1] if sides != "rows" else None)
    needs = {"need_a": need_a, "need_b": need_b}
    got = _pairs.pair_grads(a, b, 0.4, row, col, **place, **needs, backend=backend)
    expected = pairs_torch.pair_grads(a.double(), b.double(), 0.4, row, col, **place, **needs)
    for ours, true in zip(got, expected, strict=True):
        close(ours, true)


def test_symmetric(block, backend):
    a, _, place = block
    place = {"row_ids": place["row_ids"], "col_ids": place["row_ids"], "exclude_self": True, "symmetric": True}
    (got, none), (true, _) = (
        _pairs.pair_stats(a, a, 1.3, **place, backend=backend),
        pairs_torch.pair_stats(a.double(), a.double(), 1.3, **place),
    )
    assert none is None
    close(lse(got), lse(true)) if len(a) > 1 else None
    close(got.pos, true.pos)
    pull = Pull(torch.full((len(a),), 4.0), torch.rand(len(a)), torch.rand(len(a)))
    ours = _pairs.pair_grads(a, a, 0.4, pull, None, **place, backend=backend)
    exact = pairs_torch.pair_grads(a.double(), a.double(), 0.4, pull, None, **place)
    for one, other in zip(ours, exact, strict=True):
        close(one, other)


def test_siglip(block, backend):
    a, b, place = block
    ids = {k: place[k] for k in ("row_ids", "col_ids")}
    got = _pairs.siglip_pass(a, b, 1.1, -0.7, **ids, backend=backend)
    expected = pairs_torch.siglip_pass(a.double(), b.double(), 1.1, -0.7, **ids)
    for ours, true in zip(got, expected, strict=True):
        close(ours, true)


@pytest.mark.parametrize("outside", [True, False])
def test_distillation(block, outside, backend):
    a, b, _ = block
    ta, tb = torch.randn(len(a), 11), torch.randn(len(b), 11)
    where = {"row_offset": 9, "col_offset": 5, "exclude_diagonal": outside}
    sides = (a, b, ta, tb)
    got = _pairs.kl_stats(*sides, 1.2, 0.8, **where, want_right=not outside, backend=backend)
    exact = [x.double() for x in sides]
    expected = pairs_torch.kl_stats(*exact, 1.2, 0.8, **where, want_right=not outside)
    for ours, true in zip(got, expected, strict=True):
        kept = true.t_sum > 0
        value, wanted = (
            (x.cross / x.t_sum - x.t_max - x.t_sum.log() + x.s_max + x.s_sum.log())[kept] for x in (ours, true)
        )
        close(value, wanted)
        assert outside or torch.equal(ours.t_right, true.t_right)
    pulls = [KLPull(*(f(len(x)) for f in (_four, torch.rand, _four, torch.rand))) for x in (a, b)]
    ours = _pairs.kl_grads(*sides, 0.4, 0.3, *pulls, **where, backend=backend)
    true = pairs_torch.kl_grads(*exact, 0.4, 0.3, *pulls, **where)
    for one, other in zip(ours, true, strict=True):
        close(one, other)


def _four(n: int) -> torch.Tensor:
    return torch.full((n,), 4.0)


@pytest.mark.parametrize("n, m", [(0, 5), (5, 0), (0, 0)])
def test_empty_sides(n, m, backend):
    a, b, ids = torch.randn(n, 3), torch.randn(m, 3), {"row_ids": torch.arange(n), "col_ids": torch.arange(m)}
    row, col = _pairs.pair_stats(a, b, 1.0, **ids, backend=backend)
    assert torch.equal(row.sum, torch.zeros(n).double()) and torch.equal(col.sum, torch.zeros(m).double())
    assert (row.max == -torch.inf).all() and (col.max == -torch.inf).all()
    pulls = [Pull(torch.zeros(k), torch.ones(k), torch.ones(k)) for k in (n, m)]
    da, db, dscale = _pairs.pair_grads(a, b, 1.0, *pulls, **ids, backend=backend)
    assert torch.equal(da, torch.zeros(n, 3)) and torch.equal(db, torch.zeros(m, 3)) and dscale == 0
    loss, *_ = _pairs.siglip_pass(a, b, 1.0, 0.0, **ids, backend=backend)
    assert loss == 0


def test_parts_merge_to_the_whole(backend):
    a, b = torch.randn(30, 6), torch.randn(41, 6)
    rows, cols = torch.arange(30) % 4, torch.arange(41) % 4
    whole, _ = _pairs.pair_stats(a, b, 2.0, row_ids=rows, col_ids=cols, backend=backend)
    parts = [
        _pairs.pair_stats(a, b[c], 2.0, row_ids=rows, col_ids=cols[c], cols=False, backend=backend)[0]
        for c in (slice(0, 13), slice(13, 14), slice(14, 14), slice(14, 41))
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = _pairs.merge(merged, part)
    close(lse(merged), lse(whole))
    close(merged.pos, whole.pos)


def test_more_rows_than_a_compiled_block():
    a, b = torch.randn(1700, 4), torch.randn(1601, 4)
    place = {"row_ids": torch.arange(1700) % 900, "col_ids": torch.arange(1601) % 900, "exclude_self": True}
    for ours, true in zip(
        _pairs.pair_stats(a, b, 2.0, **place, backend="auto"),
        pairs_torch.pair_stats(a.double(), b.double(), 2.0, **place),
        strict=True,
    ):
        close(lse(ours), lse(true))
        close(ours.pos, true.pos)
    pulls = [Pull(torch.full((len(x),), 9.0), torch.rand(len(x)), torch.rand(len(x))) for x in (a, b)]
    got = _pairs.pair_grads(a, b, 0.5, *pulls, **place, backend="auto")
    for ours, true in zip(got, pairs_torch.pair_grads(a.double(), b.double(), 0.5, *pulls, **place), strict=True):
        close(ours, true)
