"""The compiled outer-square and quadratic kernels on every instruction set, against float64."""

import functools

import pytest
import torch

from pyfast_mmcl import _native
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.fisher import _native_fisher as native
from tests.check import assert_no_worse, assert_same_bits, raises_sentence

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = [  # B, S, O, I: no sequence, short, long, longer than one packed unit; on and beside every tile edge
    (1, 1, 1, 1),
    (3, 1, 17, 33),
    (300, 1, 13, 31),
    (5, 2, 12, 32),
    (40, 3, 25, 65),
    (7, 16, 64, 40),
    (4, 17, 63, 97),
    (2, 300, 24, 33),
    (3, 513, 129, 127),
    (2, 64, 7, 200),
]
LAYOUTS = ("contiguous", "transposed", "strided")


def squares(g: torch.Tensor, a: torch.Tensor, absolute: bool) -> torch.Tensor:
    per_sample = torch.einsum("bso,bsi->boi", g, a)
    return (per_sample.abs() if absolute else per_sample.square()).sum(0)


def draw(B: int, S: int, lanes: int, dtype: torch.dtype, layout: str) -> torch.Tensor:
    if layout == "transposed":
        return torch.randn(B, lanes, S + 3)[..., 1 : S + 1].to(dtype).transpose(1, 2)
    if layout == "strided":
        return torch.randn(S, B, 2 * lanes + 1).to(dtype).transpose(0, 1)[..., 1::2]
    return torch.randn(B, S, lanes).to(dtype)


@functools.cache  # one truth for every instruction set
def problems(dtype: torch.dtype, layout: str) -> list[tuple]:
    found = []
    for B, S, rows, lanes in SHAPES:
        g, a = draw(B, S, rows, dtype, layout), draw(B, S, lanes, dtype, layout)
        start = torch.rand(rows, lanes)
        for absolute in (False, True):
            truth = start.double() + squares(g.double(), a.double(), absolute)
            found.append((g, a, start, absolute, truth, start + squares(g.float(), a.float(), absolute)))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_float64(isa: str, dtype: torch.dtype, layout: str) -> None:
    for g, a, start, absolute, truth, plain in problems(dtype, layout):
        out = start.t().clone(memory_format=torch.contiguous_format).t() if layout == "transposed" else start.clone()
        native.outer_square_accumulate(out, g, a, absolute)
        assert_no_worse(out, plain, truth, atol=1e-6 * float(truth.max()))


def test_two_dimensions_are_one_step_per_sample(isa: str) -> None:
    g, a = torch.randn(9, 20), torch.randn(9, 35)
    two, three = torch.zeros(20, 35), torch.zeros(20, 35)
    native.outer_square_accumulate(two, g, a)
    native.outer_square_accumulate(three, g[:, None], a[:, None])
    assert_same_bits(two, three)


def test_the_number_of_threads_does_not_change_a_bit(isa: str) -> None:
    for B, S in ((70, 1), (33, 5), (3, 700)):
        g, a = torch.randn(B, S, 150), torch.randn(B, S, 130)
        results = []
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            out = torch.ones(150, 130)
            native.outer_square_accumulate(out, g, a)
            results.append(out)
        assert_same_bits(results[0], results[1])
        assert_same_bits(results[0], results[2])


def test_a_slice_is_accumulated_in_place_and_its_neighbours_stay(isa: str) -> None:
    whole = torch.full((40, 50), 3.0)
    g, a = torch.randn(4, 20, 17), torch.randn(4, 20, 33)
    native.outer_square_accumulate(whole[5:22, 7:40], g, a)
    expected = torch.full((40, 50), 3.0, dtype=torch.float64)
    expected[5:22, 7:40] += squares(g.double(), a.double(), False)
    torch.testing.assert_close(whole.double(), expected, rtol=1e-5, atol=1e-4)
    inside = torch.zeros(40, 50, dtype=torch.bool)
    inside[5:22, 7:40] = True
    assert (whole[~inside] == 3).all() and (whole[inside] >= 3).all()


@pytest.mark.parametrize("S", [1, 3, 40])
def test_not_finite_values_reach_their_row_and_column_alone(isa: str, S: int) -> None:
    g, a = torch.randn(5, S, 30), torch.randn(5, S, 70)
    g[2, S // 2, 13] = torch.nan
    a[3, 0, 40] = torch.inf
    out = torch.zeros(30, 70)
    native.outer_square_accumulate(out, g, a)
    bad = torch.zeros(30, 70, dtype=torch.bool)
    bad[13], bad[:, 40] = True, True
    assert out[13].isnan().all() and not out[:, 40].isfinite().any()
    assert out[~bad].isfinite().all()


@pytest.mark.parametrize("empty", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing_to_add(isa: str, empty: tuple[int, int, int, int]) -> None:
    B, S, rows, lanes = empty
    out = torch.full((rows, lanes), 2.0)
    native.outer_square_accumulate(out, torch.randn(B, S, rows), torch.randn(B, S, lanes))
    assert (out == 2).all()


def test_shapes_that_do_not_fit_are_refused_by_name() -> None:
    if not _native.available()[0]:
        pytest.skip("the compiled kernels are missing")
    g, a = torch.randn(2, 3, 4), torch.randn(2, 3, 5)
    with raises_sentence(InputError, "out", "expected shape [4, 5]"):
        native.outer_square_accumulate(torch.zeros(5, 4), g, a)
    with raises_sentence(InputError, "a:", "[2, 3, any]", "[2, 2, 5]"):
        native.outer_square_accumulate(torch.zeros(4, 5), g, a[:, :2])
    with raises_sentence(InputError, "out", "float32", "float64"):
        native.outer_square_accumulate(torch.zeros(4, 5, dtype=torch.float64), g, a)


def test_usable_says_why_not() -> None:
    ok, reason = native.usable(torch.zeros(2, dtype=torch.float64))
    assert not ok and "float64" in reason
    ok, reason = native.usable(torch.zeros(2, device="meta"))
    assert not ok and "meta" in reason


def buffers(dtype: torch.dtype) -> tuple[list, list, list]:
    sizes = [(1,), (7, 9), (64,), (0,), (300, 241)]
    params = [torch.randn(s).to(dtype) for s in sizes]
    return params, [torch.randn(s) for s in sizes], [torch.rand(s) for s in sizes]


@pytest.mark.parametrize("dtype", DTYPES)
def test_quadratic_value_and_gradient(isa: str, dtype: torch.dtype) -> None:
    params, anchors, weights = buffers(dtype)
    grads = [torch.empty(p.shape) for p in params]
    value = native.quadratic(params, anchors, weights, 3.0, grads)
    gaps = [p.double() - a.double() for p, a in zip(params, anchors, strict=True)]
    truth = 1.5 * sum(float((w.double() * d.square()).sum()) for w, d in zip(weights, gaps, strict=True))
    assert value == pytest.approx(truth, rel=2e-8)
    for grad, w, d in zip(grads, weights, gaps, strict=True):
        torch.testing.assert_close(grad.double(), 3.0 * w.double() * d, rtol=4e-7, atol=1e-7)
    assert native.quadratic(params, anchors, weights, 3.0) == value


def test_quadratic_has_the_same_bits_for_every_instruction_set_and_thread_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = _native.info()
    if not info["built"]:
        pytest.skip("the compiled kernels are missing")
    params, anchors, weights = buffers(torch.float32)
    values = set()
    for name in info["isas"]:
        monkeypatch.setenv("PYFAST_ISA", name)
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            values.add(native.quadratic(params, anchors, weights, 1.0))
    assert len(values) == 1


def test_quadratic_refuses_lists_that_do_not_match() -> None:
    if not _native.available()[0]:
        pytest.skip("the compiled kernels are missing")
    x = torch.zeros(3)
    with raises_sentence(InputError, "lists of equal length"):
        native.quadratic([x], [x, x], [x], 1.0)
    with raises_sentence(InputError, "anchors", "[3]", "[2]"):
        native.quadratic([x], [x[:2]], [x], 1.0)
