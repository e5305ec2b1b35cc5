"""SigLIP and the similarity distillation in Triton against the whole matrix in float64, and the ops on this backend.

On a machine with a GPU these run compiled (``pytest -m gpu``); elsewhere `test_pairs_triton.py` runs this file in a
process of its own under Triton's interpreter, which must be switched on before Triton is imported.
"""

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.check import assert_no_worse, assert_same_bits
from tests.ops.contrastive.triton_cases import DEVICE, INTERPRETED, MARKS, ids, need_kernels, rows, small_plan

need_kernels()
pytestmark = MARKS

from pyfast_mmcl.ops import contrastive  # noqa: E402
from pyfast_mmcl.ops.contrastive import pairs_triton  # noqa: E402
from pyfast_mmcl.ops.contrastive._pairs import KLPull, KLSide  # noqa: E402
from pyfast_mmcl.ops.contrastive.pairs_triton import kl_grads, kl_stats, siglip_pass  # noqa: E402


def siglip_truth(a: Tensor, b: Tensor, scale: float, bias: float, r: Tensor, c: Tensor, wide: torch.dtype) -> list:
    dots = a.to(wide) @ b.to(wide).T
    y = torch.where(r[:, None] == c, 1.0, -1.0).to(wide)
    z = -y * (dots * scale + bias)
    ds = -y * z.sigmoid()
    low = ds.to(a.dtype).to(wide)
    return [
        F.softplus(z).sum(),
        scale * (low @ b.to(wide)),
        scale * (low.T @ a.to(wide)),
        (ds * dots).sum(),
        ds.sum(),
    ]


@pytest.mark.parametrize(
    ("dtype", "scale", "bias"),
    [
        (torch.float32, 10.0, -10.0),
        (torch.float32, 100.0, 3.0),
        (torch.float32, -2.0, 0.5),
        (torch.float32, 0.0, -1.0),
        (torch.float16, 10.0, -10.0),
        (torch.bfloat16, 10.0, -10.0),
    ],
)
def test_siglip(dtype: torch.dtype, scale: float, bias: float) -> None:
    a, b, r, c = rows(70, 40, dtype=dtype), rows(33, 40, seed=1, dtype=dtype), ids(70, 9), ids(33, 9, seed=1)
    ours = siglip_pass(a, b, scale, torch.tensor(bias), row_ids=r, col_ids=c, plan=small_plan())
    truth = siglip_truth(a.double(), b.double(), scale, bias, r, c, torch.float64)
    plain = siglip_truth(a, b, scale, bias, r, c, torch.float32)
    assert all(x.dtype == torch.float64 and x.dim() == 0 for x in (ours[0], *ours[3:]))
    for x, rough, true in zip(ours, plain, truth, strict=True):
        assert_no_worse(x, rough, true, atol=1e-6 * float(true.abs().max()))


@pytest.mark.parametrize("shift", [-30.0, -10.0, -5.0, 5.0, 60.0])
def test_siglip_keeps_the_digits_of_easy_pairs(shift: float) -> None:
    # log(1 + e) would lose the last three digits of a negative pair at s = −10, and all of them at −30.
    a, labels = rows(20, 16), torch.arange(20, device=DEVICE)
    loss, *_, dbias = siglip_pass(a, a, 1.0, shift, row_ids=labels, col_ids=labels + 1000, plan=small_plan())
    truth = siglip_truth(a.double(), a.double(), 1.0, shift, labels, labels + 1000, torch.float64)
    assert abs(float(loss / truth[0]) - 1) < 3e-6 and abs(float(dbias / truth[4]) - 1) < 3e-6
    loss, *_, dbias = siglip_pass(a, a, 1.0, shift, row_ids=labels * 0, col_ids=labels * 0, plan=small_plan())
    truth = siglip_truth(a.double(), a.double(), 1.0, shift, labels * 0, labels * 0, torch.float64)
    assert abs(float(loss / truth[0]) - 1) < 3e-6 and abs(float(dbias / truth[4]) - 1) < 3e-6


def test_siglip_of_some_gradients_nothing_and_nan() -> None:
    a, b, r, c = rows(40, 24), rows(33, 24, seed=1), ids(40, 9), ids(33, 9, seed=1)
    given = {"row_ids": r, "col_ids": c, "plan": small_plan()}
    whole = siglip_pass(a, b, 9.0, -4.0, **given)
    for need_a, need_b in ((True, False), (False, True), (False, False)):
        some = siglip_pass(a, b, 9.0, -4.0, need_a=need_a, need_b=need_b, **given)
        assert (some[1] is None, some[2] is None) == (not need_a, not need_b)
        assert not need_a or torch.equal(some[1], whole[1])
        assert not need_b or torch.equal(some[2], whole[2])
        for k in (0, 3, 4):
            torch.testing.assert_close(some[k], whole[k], rtol=1e-7, atol=1e-7)
    for x, again in zip(whole, siglip_pass(a, b, 9.0, -4.0, **given), strict=True):
        assert_same_bits(x, again)
    empty = siglip_pass(a[:0], b, 9.0, -4.0, row_ids=r[:0], col_ids=c)
    assert empty[0] == empty[3] == empty[4] == 0 and empty[1].shape == (0, 24) and not empty[2].any()
    b[7, 3] = torch.nan
    assert siglip_pass(a, b, 9.0, -4.0, need_a=False, need_b=False, **given)[0].isnan()


class Distillation:
    """Student and teacher matrices in the precision of ``wide``."""

    def __init__(self, sides: tuple, s_scale: float, t_scale: float, out: Tensor, wide: torch.dtype) -> None:
        self.sa, self.sb, ta, tb = (x.to(wide) for x in sides)
        self.scale, self.out = s_scale, out
        self.dots, self.teacher = self.sa @ self.sb.T, (ta @ tb.T) * t_scale
        self.s = (self.dots * s_scale).masked_fill(out, -torch.inf)
        self.t = self.teacher.masked_fill(out, -torch.inf)

    def losses(self, dim: int) -> Tensor:
        p, log_p, log_q = self.t.softmax(dim), self.t.log_softmax(dim), self.s.log_softmax(dim)
        return torch.where(self.out, 0, p * (log_p - log_q)).sum(dim)

    def gradients(self, row: Tensor | None, col: Tensor | None, rounded: torch.dtype | None) -> list[Tensor]:
        ds = torch.zeros_like(self.s)
        for up, dim in ((row, 1), (col, 0)):
            if up is not None:
                ds += (self.s.softmax(dim) - self.t.softmax(dim)) * up.to(ds.dtype).unsqueeze(dim)
        low = ds if rounded is None else ds.to(rounded).to(ds.dtype)
        return [self.scale * (low @ self.sb), self.scale * (low.T @ self.sa), (ds * self.dots).sum()]


def loss_of(side: KLSide) -> Tensor:
    gap = (side.s_max.double() + side.s_sum.log()) - (side.t_max.double() + side.t_sum.log())
    return side.cross / side.t_sum + gap


def pull_of(side: KLSide | None, up: Tensor) -> KLPull | None:
    if side is None:
        return None
    return KLPull(side.s_max, (up / side.s_sum).float(), side.t_max, (up / side.t_sum).float())


KL = [
    {},
    {"exclude_diagonal": True},
    {"exclude_diagonal": True, "row_offset": 4, "col_offset": 20},
    {"rows": False},
    {"cols": False, "exclude_diagonal": True, "row_offset": 9},
]


@pytest.mark.parametrize(
    ("dtype", "s_scale", "t_scale", "options"),
    [(torch.float32, 20.0, 100.0, options) for options in KL] + [(torch.float16, 5.0, -3.0, KL[2])],
)
def test_distillation(dtype: torch.dtype, s_scale: float, t_scale: float, options: dict[str, Any]) -> None:
    N, M = 70, 33
    sides = rows(N, 24, dtype=dtype), rows(M, 24, seed=1, dtype=dtype), rows(N, 40, seed=2, dtype=dtype)
    sides = (*sides, rows(M, 40, seed=3, dtype=dtype))
    words = {k: v for k, v in options.items() if k not in ("rows", "cols")}
    shift = words.get("row_offset", 0) - words.get("col_offset", 0)
    diagonal = torch.arange(N, device=DEVICE)[:, None] + shift == torch.arange(M, device=DEVICE)
    out = diagonal & words.get("exclude_diagonal", False)
    truth, plain = (Distillation(sides, s_scale, t_scale, out, wide) for wide in (torch.float64, torch.float32))
    stats = kl_stats(*sides, s_scale, t_scale, want_right=True, plan=small_plan(), **options)
    ups = [torch.rand(n, generator=torch.Generator().manual_seed(n)).to(DEVICE) for n in (N, M)]
    for side, dim, name in zip(stats, (1, 0), ("rows", "cols"), strict=True):
        assert (side is None) == (not options.get(name, True))
        if side is not None:
            assert_no_worse(loss_of(side), plain.losses(dim), truth.losses(dim), atol=2e-6)
            own = torch.where(diagonal, truth.teacher, -torch.inf).amax(dim)
            best = truth.t.amax(dim)
            assert torch.equal(side.t_right, ~(best > own)), "no ties: rounding cannot matter"
    pulls = [pull_of(side, up) for side, up in zip(stats, ups, strict=True)]
    given = [up if side is not None else None for side, up in zip(stats, ups, strict=True)]
    true, rough = truth.gradients(*given, None), plain.gradients(*given, dtype)
    for ours, x, y in zip(
        kl_grads(*sides, s_scale, t_scale, *pulls, plan=small_plan(), **words), rough, true, strict=True
    ):
        assert_no_worse(ours, x, y, atol=3e-6 * float(y.abs().max()) + 1e-7)


def test_distillation_from_itself_is_nothing() -> None:
    a, b = rows(33, 24), rows(40, 24, seed=1)
    row, col = kl_stats(a, b, a, b, 50.0, 50.0, plan=small_plan())
    for side in (row, col):
        assert float(loss_of(side).abs().max()) < 1e-6
    up = torch.ones(40, device=DEVICE)
    grads = kl_grads(a, b, a, b, 50.0, 50.0, pull_of(row, up[:33]), pull_of(col, up), plan=small_plan())
    assert all(float(x.abs().max()) < 1e-4 for x in grads)


def test_teachers_columns_150_nats_below_the_rest() -> None:
    sa, sb = rows(40, 16), rows(45, 16, seed=1)
    ta = torch.zeros(40, 16, device=DEVICE)
    ta[:, 0], ta[:, 1:] = 1.0, 0.05 * rows(40, 15, seed=2)
    tb = torch.zeros(45, 16, device=DEVICE)
    tb[:, 0], tb[:, 1:] = 1.0, 0.05 * rows(45, 15, seed=3)
    tb[[2, 41]] *= -0.75
    out = torch.zeros(40, 45, dtype=torch.bool, device=DEVICE)
    for sides in ((sa, sb, ta, tb), (ta, tb, sa, sb)):
        truth, plain = (Distillation(sides, 100.0, 100.0, out, wide) for wide in (torch.float64, torch.float32))
        for side, dim in zip(kl_stats(*sides, 100.0, 100.0, plan=small_plan()), (1, 0), strict=True):
            assert_no_worse(loss_of(side), plain.losses(dim), truth.losses(dim), atol=2e-5)


def test_ties_of_the_teacher_count_as_right_and_nan_reaches_the_loss() -> None:
    a = rows(40, 16)
    a[5] = a[33]
    row, col = kl_stats(a, a, a, a, 9.0, 9.0, want_right=True, plan=small_plan())
    assert row.t_right.all() and col.t_right.all()
    b = a.clone()
    b[7] = 2 * a[11]  # column 7 now beats the true pair of row 11
    row, _ = kl_stats(a, a, a, b, 9.0, 9.0, want_right=True, plan=small_plan())
    assert not row.t_right[11]
    far, _ = kl_stats(a, a, a, a, 9.0, 9.0, want_right=True, row_offset=100, plan=small_plan())
    assert not far.t_right.any(), "no true pair among these columns"
    b[3, 0] = torch.nan
    row, col = kl_stats(a, a, a, b, 9.0, 9.0, plan=small_plan())
    assert loss_of(row).isnan().all() and torch.equal(loss_of(col).isnan(), torch.arange(40, device=DEVICE) == 3)


def test_distillation_of_nothing_and_without_gradients() -> None:
    a, b = rows(40, 16), rows(33, 16, seed=1)
    for x, y in ((a[:0], b), (a, b[:0])):
        row, col = kl_stats(x, y, x, y, 3.0, 3.0)
        assert len(row.s_max) == len(x) and len(col.t_sum) == len(y) and not row.cross.any() and not col.s_sum.any()
        up = torch.ones(40, device=DEVICE)
        grads = kl_grads(x, y, x, y, 3.0, 3.0, pull_of(row, up[: len(x)]), pull_of(col, up[: len(y)]))
        assert grads[0].shape == x.shape and not grads[1].any() and grads[2] == 0
    assert kl_stats(a, b, a, b, 3.0, 3.0, rows=False, cols=False) == (None, None)
    row, _ = kl_stats(a, b, b[:1].expand(40, 16), b, 3.0, 3.0, cols=False, plan=small_plan())
    pull, given = pull_of(row, torch.ones(40, device=DEVICE)), (a, b, b[:1].expand(40, 16), b, 3.0, 3.0)
    whole = kl_grads(*given, pull, None, plan=small_plan())
    some = kl_grads(*given, pull, None, need_a=False, need_b=False, plan=small_plan())
    assert some[:2] == (None, None)
    torch.testing.assert_close(some[2], whole[2], rtol=1e-6, atol=1e-7)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    if INTERPRETED:
        for name in ("pair_stats", "pair_grads", "siglip", "kl_stats", "kl_grads"):
            module = importlib.import_module(f"pyfast_mmcl.ops.contrastive.{name}_triton")
            monkeypatch.setattr(module, "plan_for", lambda dtype: small_plan())


CALLS = {
    "info_nce": lambda m, a, b, s, **kw: m.info_nce(a, b, s, **kw),
    "nt_xent": lambda m, a, b, s, **kw: m.nt_xent(a, s, **kw),
    "sup_con": lambda m, a, b, s, **kw: m.sup_con(a, torch.arange(len(a)) % 7, s, **kw),
    "siglip": lambda m, a, b, s, **kw: m.siglip(a, b, s, torch.tensor(-5.0, device=DEVICE), **kw),
    "similarity_kl": lambda m, a, b, s, **kw: m.similarity_kl(
        a, b, b.detach(), a.detach(), student_scale=s, teacher_scale=9.0, skip_wrong=True, **kw
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_ops_run_on_this_backend(name: str, small_tiles: None) -> None:
    results = []
    for dtype, options in ((torch.float32, {"backend": "triton"}), (torch.float64, {"backend": "torch"})):
        leaves = [x.to(dtype).requires_grad_() for x in (rows(34, 24), rows(34, 24, seed=1))]
        scale = torch.tensor(8.0, dtype=dtype, device=DEVICE, requires_grad=True)
        loss = CALLS[name](contrastive, *leaves, scale, **options)
        grads = torch.autograd.grad(loss, [*leaves, scale], allow_unused=True)
        results.append([loss.detach(), *grads])
    for ours, truth in zip(*results, strict=True):
        assert (ours is None) == (truth is None)
        if truth is not None:
            torch.testing.assert_close(ours.double(), truth, rtol=2e-5, atol=1e-6)


def test_available_and_self_check() -> None:
    usable, reason = pairs_triton.available(DEVICE)
    assert usable, reason
    assert pairs_triton.self_check(DEVICE) == ""


def test_self_check_notices_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    good = pairs_triton.pair_grads
    monkeypatch.setattr(pairs_triton, "pair_grads", lambda *a, **kw: tuple(1.01 * x for x in good(*a, **kw)))
    assert "gradients" in pairs_triton.self_check(DEVICE)


@pytest.mark.parametrize("failure", ["wrong", "raises"])
def test_a_failed_first_use_disables_the_kernels_with_a_reason(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(device: torch.device) -> str:
        if failure == "raises":
            raise RuntimeError("no C compiler\nand more")
        return "statistics"

    monkeypatch.setattr(pairs_triton, "self_check", check)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.warns(UserWarning, match="not used: the self-check on cuda:0"):
        usable, reason = pairs_triton._first_use(torch.device("cuda", 0))
    assert not usable and reason.endswith("no C compiler" if failure == "raises" else "wrong statistics")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    usable, reason = pairs_triton._first_use(torch.device("cuda", 0))
    assert not usable and "7.5" in reason
