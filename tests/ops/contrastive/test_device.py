"""Other devices: numbers stay where they are, and a GPU gives what the CPU gives, on any stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import _gradients, _inputs, _kl, _softmax
from tests.check import assert_no_worse
from tests.ops.contrastive.cases import CASES, RELATIONS, leaves, ours, plain, run, truth

EVERY = pytest.mark.parametrize("case", [*CASES, *RELATIONS], ids=str)


def _left_on_its_device(x):
    return x.detach().reshape(()) if isinstance(x, Tensor) else x


@EVERY
def test_numbers_need_not_be_read(case, monkeypatch):
    """On a GPU scale, bias and the upstream gradient stay tensors, so that nothing waits for them."""
    given = leaves(20, 7, dtype=torch.float32)
    expected, expected_grads = ours(case, given, **({} if case in RELATIONS else {"backend": "torch"}))
    for module in (_gradients, _inputs, _kl, _softmax):
        monkeypatch.setattr(module, "number", _left_on_its_device)
    monkeypatch.setattr(Tensor, "item", _refuse)
    monkeypatch.setattr(Tensor, "__float__", _refuse)
    value, grads = ours(case, given, **({} if case in RELATIONS else {"backend": "torch"}))
    monkeypatch.undo()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=1e-5, atol=1e-6)


def _refuse(x: Tensor) -> None:
    raise AssertionError("the value of a tensor was read")


def on_gpu(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same leaves on the GPU."""
    return {k: v.cuda() for k, v in given.items()}


@pytest.mark.gpu
@EVERY
@pytest.mark.parametrize("word", ["auto", "torch"])
@pytest.mark.parametrize("n", [17, 129])
def test_gpu(case, word, n):
    given = on_gpu(leaves(n, 40, dtype=torch.float32))
    options = {} if case in RELATIONS else {"backend": word}
    value, grads = ours(case, given, **options)
    (true_value, true_grads), (plain_value, plain_grads) = truth(case, given), plain(case, given)
    size = max(1.0, true_value.abs().max().item())
    assert value.is_cuda
    assert_no_worse(value, plain_value, true_value, atol=4e-6 * size)
    for name, grad in grads.items():
        size = max(1.0, true_grads[name].abs().max().item())
        assert grad.is_cuda
        assert_no_worse(grad, plain_grads[name], true_grads[name], atol=4e-6 * size)


@pytest.mark.gpu
@EVERY
def test_side_stream(case):
    given = on_gpu(leaves(129, 40, dtype=torch.float32))
    expected, expected_grads = ours(case, given)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        late = {k: v.clone() for k, v in given.items()}
        for x in late.values():  # the rows become right only after some work on this very stream
            saved = x.clone()
            x.zero_()
            torch.cuda._sleep(2_000_000)
            x.copy_(saved)
        value, grads = run(case, contrastive, late)
    side.synchronize()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_a_scale_on_the_cpu_gets_its_gradient_there():
    given = leaves(9, dtype=torch.float32)
    scale = torch.tensor(5.0, requires_grad=True)
    contrastive.info_nce(given["a"].cuda(), given["b"].cuda(), scale).backward()
    assert scale.grad.device.type == "cpu"
    exact = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    contrastive.info_nce(given["a"].double(), given["b"].double(), exact).backward()
    torch.testing.assert_close(scale.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)
