"""The Triton outer-square kernel against float64.

On a machine with a GPU these run compiled (``pytest -m gpu``); elsewhere `test_outer_square_triton.py` runs this file
in a process of its own under Triton's interpreter, which must be switched on before Triton is imported.
"""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
pytest.importorskip("triton")
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("needs a CUDA device; test_outer_square_triton.py runs it interpreted", allow_module_level=True)
# NumPy, which the interpreter computes with, warns about the NaN and infinities that belong to these tests.
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning")] if INTERPRETED else [pytest.mark.gpu]

from pyfast_mmcl.ops.fisher import outer_square_triton as ours  # noqa: E402
from tests.check import assert_no_worse, assert_same_bits  # noqa: E402

PLAN = ours.Plan(block_o=16, block_i=32, block_s=16, warps=4, stages=1)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = [(1, 1, 1, 1), (3, 1, 17, 33), (5, 2, 16, 31), (4, 17, 40, 65), (2, 50, 15, 64), (9, 16, 8, 24)]


def squares(g: torch.Tensor, a: torch.Tensor, absolute: bool) -> torch.Tensor:
    per_sample = torch.einsum("bso,bsi->boi", g, a)
    return (per_sample.abs() if absolute else per_sample.square()).sum(0)


def draw(B: int, S: int, lanes: int, dtype: torch.dtype, layout: str) -> torch.Tensor:
    if layout == "transposed":
        return torch.randn(B, lanes, S).to(DEVICE, dtype).transpose(1, 2)
    if layout == "strided":
        return torch.randn(S, B, 2 * lanes + 1).to(DEVICE, dtype).transpose(0, 1)[..., 1::2]
    return torch.randn(B, S, lanes).to(DEVICE, dtype)


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_float64(dtype: torch.dtype, layout: str) -> None:
    for B, S, rows, lanes in SHAPES:
        for absolute in (False, True):
            g, a = draw(B, S, rows, dtype, layout), draw(B, S, lanes, dtype, layout)
            start = torch.rand(rows, lanes, device=DEVICE)
            out = start.clone()
            ours.outer_square_accumulate(out, g, a, absolute, PLAN)
            truth = start.double() + squares(g.double(), a.double(), absolute)
            plain = start + squares(g.float(), a.float(), absolute)
            assert_no_worse(out, plain, truth, atol=1e-6 * float(truth.max()))


def test_default_plans_and_unequal_dtypes() -> None:
    for g_dtype, a_dtype in ((torch.float32, torch.float32), (torch.bfloat16, torch.float32), (torch.float16,) * 2):
        g, a = draw(2, 40, 20, g_dtype, "contiguous"), draw(2, 40, 24, a_dtype, "contiguous")
        out = torch.zeros(20, 24, device=DEVICE)
        ours.outer_square_accumulate(out, g, a)
        truth = squares(g.double(), a.double(), False)
        assert_no_worse(out, squares(g.float(), a.float(), False), truth, atol=1e-6 * float(truth.max()))


def test_two_dimensions_are_one_step_per_sample() -> None:
    g, a = draw(6, 1, 9, torch.float32, "contiguous"), draw(6, 1, 12, torch.float32, "contiguous")
    two, three = torch.zeros(9, 12, device=DEVICE), torch.zeros(9, 12, device=DEVICE)
    ours.outer_square_accumulate(two, g[:, 0], a[:, 0], plan=PLAN)
    ours.outer_square_accumulate(three, g, a, plan=PLAN)
    assert_same_bits(two, three)


def test_a_slice_is_accumulated_in_place_and_its_neighbours_stay() -> None:
    whole = torch.full((30, 40), 3.0, device=DEVICE)
    g, a = draw(3, 5, 17, torch.float32, "contiguous"), draw(3, 5, 21, torch.float32, "contiguous")
    ours.outer_square_accumulate(whole[5:22, 7:28], g, a, plan=PLAN)
    expected = torch.full((30, 40), 3.0, dtype=torch.float64, device=DEVICE)
    expected[5:22, 7:28] += squares(g.double(), a.double(), False)
    torch.testing.assert_close(whole.double(), expected, rtol=1e-5, atol=1e-5)


def test_not_finite_values_reach_their_row_and_column_alone() -> None:
    g, a = draw(4, 20, 18, torch.float32, "contiguous"), draw(4, 20, 35, torch.float32, "contiguous")
    g[2, 3, 13], a[3, 0, 20] = torch.nan, torch.inf
    out = torch.zeros(18, 35, device=DEVICE)
    ours.outer_square_accumulate(out, g, a, plan=PLAN)
    assert out[13].isnan().all() and not out[:, 20].isfinite().any()
    out[13], out[:, 20] = 0, 0
    assert out.isfinite().all()


def test_split_samples_are_summed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ours.splits_for(64, 4, 100) == 64 and ours.splits_for(64, 64, 100) == 4
    assert ours.splits_for(64, 1000, 100) == 1 and ours.splits_for(64, 1, 1 << 23) == 2
    g, a = draw(7, 20, 16, torch.float32, "contiguous"), draw(7, 20, 32, torch.float32, "contiguous")
    truth = squares(g.double(), a.double(), False)
    for programs in (1, 3, 100):
        monkeypatch.setattr(ours, "_PROGRAMS", programs)
        runs = []
        for _ in range(2):
            out = torch.zeros(16, 32, device=DEVICE)
            ours.outer_square_accumulate(out, g, a, plan=PLAN)
            runs.append(out)
        assert_same_bits(*runs)
        torch.testing.assert_close(runs[0].double(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("empty", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_nothing_to_add(empty: tuple[int, int, int, int]) -> None:
    B, S, rows, lanes = empty
    out = torch.full((rows, lanes), 2.0, device=DEVICE)
    ours.outer_square_accumulate(out, torch.randn(B, S, rows, device=DEVICE), torch.randn(B, S, lanes, device=DEVICE))
    assert (out == 2).all()


def test_available_and_self_check(monkeypatch: pytest.MonkeyPatch) -> None:
    usable, reason = ours.available(DEVICE)
    assert usable, reason
    assert ours.self_check(DEVICE)
    monkeypatch.setattr(ours, "_step", lambda x: 2 if x.stride(2) == 1 else 0)
    good = ours.outer_square_accumulate
    monkeypatch.setattr(ours, "outer_square_accumulate", lambda out, g, a: good(out, g, a, True))
    assert not ours.self_check(DEVICE), "absolute sums are not squares"
