"""The op against einsum in float64: shapes, dtypes, layouts, absolute values, errors."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import BackendError, InputError, UnknownNameError
from pyfast_mmcl.ops.fisher import outer_square_accumulate
from tests.check import SIZES, assert_no_worse, layouts, raises_sentence


def truth(out, g, a, absolute=False):
    """Definition in float64."""
    g, a = (x.double() if x.ndim == 3 else x.double()[:, None] for x in (g, a))
    product = torch.einsum("bso,bsi->boi", g, a)
    return out.double() + (product.abs() if absolute else product.square()).sum(0)


def plain(out, g, a, absolute=False):
    """The obvious computation in float32."""
    g, a = (x.float() if x.ndim == 3 else x.float()[:, None] for x in (g, a))
    product = g.mT @ a
    return out + (product.abs() if absolute else product.square()).sum(0)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("steps", [None, 1, 2, 5, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_definition(dtype, steps, absolute):
    shape = (7,) if steps is None else (7, steps)
    g, a = torch.randn(*shape, 17).to(dtype), torch.randn(*shape, 31).to(dtype)
    out = torch.rand(17, 31)
    expected, obvious = truth(out, g, a, absolute), plain(out, g, a, absolute)
    ours = out.clone()
    assert outer_square_accumulate(ours, g, a, absolute=absolute) is ours
    assert_no_worse(ours, obvious, expected, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", ["B", "S", "O", "I"])
def test_awkward_sizes(place, size):
    sizes = {"B": 3, "S": 5, "O": 4, "I": 6, place: size}
    g, a = torch.randn(sizes["B"], sizes["S"], sizes["O"]), torch.randn(sizes["B"], sizes["S"], sizes["I"])
    out = torch.rand(sizes["O"], sizes["I"])
    expected, obvious = truth(out, g, a), plain(out, g, a)
    assert_no_worse(outer_square_accumulate(out, g, a), obvious, expected, atol=1e-4)


@pytest.mark.parametrize("steps", [None, 6])
def test_large_output_and_float64(steps):
    shape = (3,) if steps is None else (3, steps)
    g, a = torch.randn(*shape, 300).double(), torch.randn(*shape, 257).double()
    out = torch.zeros(300, 257, dtype=torch.float64)
    torch.testing.assert_close(outer_square_accumulate(out.clone(), g, a), truth(out, g, a), rtol=1e-12, atol=1e-12)


def test_strided_arguments_and_transposed_accumulator():
    g, a = torch.randn(9, 5), torch.randn(9, 8)
    expected = truth(torch.zeros(5, 8), g, a)
    for _, g_l in layouts(g):
        for _, a_l in layouts(a):
            out = torch.zeros(8, 5)
            outer_square_accumulate(out.t(), g_l, a_l)
            torch.testing.assert_close(out.t().double(), expected, rtol=1e-5, atol=1e-5)


def test_numpy_in_place():
    g, a, out = np.ones((2, 3, 4), np.float32), np.ones((2, 3, 5), np.float32), np.zeros((4, 5), np.float32)
    assert outer_square_accumulate(out, g, a) is out
    np.testing.assert_allclose(out, 18.0)


def test_errors_say_what_to_do():
    g, a, out = torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.zeros(4, 5)
    with raises_sentence(InputError, "[B, S, O]"):
        outer_square_accumulate(out, g, a[:, :2])
    with raises_sentence(InputError, "[4, 5]", "[5, 4]"):
        outer_square_accumulate(torch.zeros(5, 4), g, a)
    with raises_sentence(InputError, "accumulator", "bfloat16"):
        outer_square_accumulate(out.bfloat16(), g, a)
    with raises_sentence(InputError, "int64"):
        outer_square_accumulate(out, g.long(), a)
    with raises_sentence(InputError, "list"):
        outer_square_accumulate(out, g.tolist(), a)
    with raises_sentence(UnknownNameError, "nativ"):
        outer_square_accumulate(out, g, a, backend="nativ")
    for backend in ("native", "triton"):
        with raises_sentence(BackendError, "cannot run", "float64"):
            outer_square_accumulate(out.double(), g.double(), a.double(), backend=backend)
