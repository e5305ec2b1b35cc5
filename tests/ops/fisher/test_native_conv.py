"""The compiled convolution form on every instruction set, against a batch-of-one loop of autograd in float64."""

import functools
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl import _native
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.fisher import _native_fisher as native
from tests.check import assert_no_worse, assert_same_bits, raises_sentence

CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def weight(self) -> tuple[int, ...]:
        return (self.outputs, self.channels // self.groups, *self.kernel)

    @property
    def positions(self) -> tuple[int, ...]:
        every = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in every)

    @property
    def settings(self) -> tuple:
        return self.stride, self.padding, self.dilation, self.groups


CASES = {
    "few channels": Case(3, 3, 8, (9, 10), (3, 3), (1, 1), (1, 1), (1, 1)),
    "first layer": Case(2, 3, 17, (20, 21), (7, 7), (2, 2), (3, 3), (1, 1)),
    "a tile of channels": Case(3, 32, 13, (6, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
    "uneven": Case(3, 40, 13, (8, 9), (3, 2), (2, 1), (1, 0), (1, 2)),
    "pointwise": Case(2, 70, 20, (5, 4), (1, 1), (2, 2), (0, 0), (1, 1)),
    "patches": Case(2, 3, 33, (32, 32), (8, 8), (8, 8), (0, 0), (1, 1)),
    "groups": Case(2, 12, 8, (7, 7), (3, 3), (1, 1), (2, 2), (2, 2), 4),
    "depthwise": Case(2, 6, 12, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1), 6),
    "wide groups": Case(2, 64, 26, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "long": Case(2, 5, 6, (700,), (5,), (2,), (3,), (1,)),
    "waveform": Case(2, 1, 6, (900,), (80,), (4,), (38,), (1,)),
    "volume": Case(2, 4, 5, (5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 0, 2), (2, 1, 1)),
    "several units": Case(1, 33, 5, (20, 30), (3, 3), (1, 1), (1, 1), (1, 1)),
    "short samples": Case(5, 8, 8, (2, 2), (3, 3), (1, 1), (1, 1), (1, 1)),
}


def per_sample(case: Case, g: torch.Tensor, x: torch.Tensor, absolute: bool, dtype: torch.dtype) -> torch.Tensor:
    total = torch.zeros(case.weight, dtype=dtype)
    for b in range(case.batch):
        weight = torch.zeros(case.weight, dtype=dtype, requires_grad=True)
        y = CONVOLUTIONS[x.ndim](x[b : b + 1].to(dtype), weight, None, *case.settings)
        (grad,) = torch.autograd.grad(y, weight, g[b : b + 1].to(dtype))
        total += grad.abs() if absolute else grad.square()
    return total


def innermost(x: torch.Tensor) -> torch.Tensor:
    """The same values with dimension 1 innermost in memory."""
    return x.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)


def draw(case: Case, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.randn(case.batch, case.outputs, *case.positions).to(dtype)
    return g, torch.randn(case.batch, case.channels, *case.size).to(dtype)


@functools.cache  # one truth for every instruction set
def problem(name: str, dtype: torch.dtype) -> tuple:
    case = CASES[name]
    g, x = draw(case, dtype)
    start = torch.rand(case.weight)
    answers = {}
    for absolute in (False, True):
        truth = start.double() + per_sample(case, g, x, absolute, torch.float64)
        answers[absolute] = truth, start + per_sample(case, g, x, absolute, torch.float32)
    return g, x, start, answers


@pytest.mark.parametrize("name", CASES)
def test_equals_a_loop_of_single_samples(isa: str, name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        g, x, start, answers = problem(name, dtype)
        for absolute, (truth, plain) in answers.items():
            for turn in (torch.clone, innermost):
                out = turn(start)
                native.conv_square_accumulate(out, turn(g), turn(x), *CASES[name].settings, absolute)
                assert_no_worse(out, plain, truth, atol=1e-6 * float(truth.max()))


def test_sliced_inputs_and_outputs(isa: str) -> None:
    case = CASES["uneven"]
    g, x = draw(case, torch.float32)
    wide_g, wide_x = torch.zeros(*g.shape, 2), torch.zeros(*x.shape[:-1], x.shape[-1] + 3)
    wide_g[..., 1], wide_x[..., 2:-1] = g, x
    dense, whole = torch.zeros(case.weight), torch.full((case.outputs + 1, *case.weight[1:]), 7.0)
    native.conv_square_accumulate(dense, g, x, *case.settings)
    native.conv_square_accumulate(whole[1:], wide_g[..., 1], wide_x[..., 2:-1], *case.settings)
    assert (whole[0] == 7).all()
    torch.testing.assert_close(whole[1:] - 7, dense, rtol=1e-5, atol=1e-4)


def test_the_number_of_threads_does_not_change_a_bit(isa: str) -> None:
    for name in ("first layer", "several units", "short samples"):
        case = CASES[name]
        g, x = draw(case, torch.float32)
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            out = torch.zeros(case.weight)
            native.conv_square_accumulate(out, g, x, *case.settings)
            results.append(out)
        assert_same_bits(results[0], results[1])
        assert_same_bits(results[0], results[2])


def test_many_packed_parts_of_one_sample(isa: str) -> None:
    case = Case(2, 3, 40, (70, 71), (7, 7), (1, 1), (3, 3), (1, 1))
    g, x = draw(case, torch.float32)
    out = torch.zeros(case.weight)
    native.conv_square_accumulate(out, g, x, *case.settings)
    truth, plain = (per_sample(case, g, x, False, dtype) for dtype in (torch.float64, torch.float32))
    assert_no_worse(out, plain, truth, atol=1e-6 * float(truth.max()))


def test_nothing_to_add(isa: str) -> None:
    out = torch.ones(4, 3, 3, 3)
    ones, twos = (1, 1), (2, 2)
    native.conv_square_accumulate(out, torch.randn(0, 4, 8, 8), torch.randn(0, 3, 8, 8), ones, ones, ones)
    native.conv_square_accumulate(out, torch.randn(2, 4, 0, 0), torch.randn(2, 3, 2, 2), twos, (0, 0), ones)
    assert (out == 1).all()


def test_sizes_that_do_not_belong_together_are_refused_by_name() -> None:
    if not _native.available()[0]:
        pytest.skip("the compiled kernels are missing")
    g, x, out = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8, 8), torch.zeros(4, 3, 3, 3)
    ones, zeros = (1, 1), (0, 0)
    with raises_sentence(InputError, "g:", "expected 6", "got 8"):
        native.conv_square_accumulate(out, g, x, ones, zeros, ones)
    with raises_sentence(InputError, "out:", "kernel"):
        native.conv_square_accumulate(out[:, :2], g, x, ones, ones, ones)
    with raises_sentence(InputError, "groups"):
        native.conv_square_accumulate(out, g, x, ones, ones, ones, 2)
    with raises_sentence(InputError, "stride", "one number"):
        native.conv_square_accumulate(out, g, x, (1,), ones, ones)
    with raises_sentence(InputError, "x:", "B = 2"):
        native.conv_square_accumulate(out, g, x[:1], ones, ones, ones)
