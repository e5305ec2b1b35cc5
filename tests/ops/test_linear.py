"""`linear` against float64, with torch's own function as the measure of rounding."""

import pytest
import torch
from torch.nn.functional import linear as torch_linear

from pyfast_mmcl.ops import linear as module
from pyfast_mmcl.ops.linear import linear

pytestmark = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN")
SIZES = [(1, 1, 1), (2, 3, 1), (17, 33, 65), (64, 97, 31), (256, 784, 10), (128, 10, 500), (257, 129, 127)]


@pytest.fixture(params=[True, False], ids=["onednn", "torch"])
def always(request, monkeypatch):
    """Every size by oneDNN, or none."""
    monkeypatch.setattr(module, "_LEAST_PRODUCTS", 0)
    monkeypatch.setattr(module, "_pays", lambda: request.param)


def draw(B, D, H, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, D, generator=g), torch.randn(H, D, generator=g), torch.randn(H, generator=g)


def results(f, x, weight, bias):
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, bias)]
    y = f(*leaves)
    return [y, *torch.autograd.grad(y.square().sum(), leaves)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_value_and_gradients(always, size):
    x, weight, bias = draw(*size)
    truth = results(torch_linear, x.double(), weight.double(), bias.double())
    ours, plain = results(linear, x, weight, bias), results(torch_linear, x, weight, bias)
    for t, o, p in zip(truth, ours, plain, strict=True):
        allowed = 2 * (p - t).abs().max() + 1e-6 * t.abs().max()
        assert (o - t).abs().max() <= allowed


def test_strided_inputs_and_no_bias(always):
    x, weight, _ = draw(130, 70, 66)
    wide = torch.full((140, 260), torch.nan)
    wide[5:135, ::2][:, :70] = x
    view = wide[5:135, ::2][:, :70]
    torch.testing.assert_close(linear(view, weight.t().contiguous().t()), torch_linear(x, weight), rtol=1e-5, atol=1e-4)
    assert linear(x[:0], weight).shape == (0, 66)


def test_the_gradient_has_a_gradient(always):
    x, weight, bias = (t.requires_grad_() for t in draw(33, 20, 17))

    def twice(f):
        (of_x,) = torch.autograd.grad(f(x, weight, bias).tanh().sum(), x, create_graph=True)
        return torch.autograd.grad(of_x.square().sum(), weight)[0]

    torch.testing.assert_close(twice(linear), twice(torch_linear), rtol=1e-4, atol=1e-4)


def test_only_float32_on_the_cpu_is_taken(always):
    x, weight, bias = draw(8, 4, 3)
    assert not module._fits(x.double(), weight.double())
    assert not module._fits(x[None], weight)
    assert not module._fits(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    per_row = torch.func.vmap(torch.func.grad(lambda w, r: linear(r[None], w).sum()), in_dims=(None, 0))(weight, x)
    torch.testing.assert_close(per_row, x[:, None].expand(8, 3, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(x, weight[:, :3])


def test_a_small_product_is_torchs():
    x, weight, _ = draw(4, 4, 4)
    assert not module._fits(x, weight)
    x, weight, _ = draw(256, 512, 64)
    assert module._fits(x, weight)
