"""The penalty against its definition by autograd; folding against the unfolded sum."""

import pytest
import torch

from pyfast_mmcl._errors import BackendError, InputError
from pyfast_mmcl.ops.fisher import fold_quadratics, quadratic_penalty
from tests.check import assert_same_bits, raises_sentence

SHAPES = [(7, 5), (), (0, 3), (129,)]


def lists(dtype=torch.float64):
    return [[torch.randn(s, dtype=dtype) for s in SHAPES] for _ in range(2)] + [
        [torch.rand(s, dtype=dtype) for s in SHAPES]
    ]


def definition(params, anchors, weights, lam):
    return 0.5 * lam * sum((w * (p - a).square()).sum() for p, a, w in zip(params, anchors, weights, strict=True))


def test_value_and_gradient():
    params, anchors, weights = lists()
    for p in params:
        p.requires_grad_()
    expected = definition(params, anchors, weights, 3.5)
    wanted = torch.autograd.grad(2 * expected, params)
    ours = quadratic_penalty(params, anchors, weights, 3.5)
    grads = torch.autograd.grad(2 * ours, params)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    for g, w in zip(grads, wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-12, atol=1e-12)


def test_gradcheck():
    params, anchors, weights = lists()
    params = [p.requires_grad_() for p in params]
    assert torch.autograd.gradcheck(lambda *p: quadratic_penalty(list(p), anchors, weights, 2.0), params)


def test_flat_buffer_and_frozen_parameters():
    flat, anchor, weight = torch.randn(50), torch.randn(50), torch.rand(50)
    expected = definition([flat.double()], [anchor.double()], [weight.double()], 1.0)
    torch.testing.assert_close(quadratic_penalty(flat, anchor, weight).double(), expected, rtol=1e-6, atol=0)
    a, b = torch.randn(3, requires_grad=True), torch.randn(3)
    value = quadratic_penalty([a, b], [torch.zeros(3)] * 2, [torch.ones(3)] * 2, 2.0)
    (grad,) = torch.autograd.grad(value, [a])
    torch.testing.assert_close(grad, 2 * a.detach())
    assert not quadratic_penalty(b, b, b).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters(dtype):
    p = torch.randn(97).to(dtype).requires_grad_()
    anchor, weight = torch.randn(97), torch.rand(97)
    value = quadratic_penalty(p, anchor, weight, 5.0)
    assert value.dtype == torch.float32
    (grad,) = torch.autograd.grad(value, [p])
    assert grad.dtype == dtype
    exact = 5.0 * weight * (p.detach().float() - anchor)
    torch.testing.assert_close(grad, exact.to(dtype), rtol=0, atol=0)


def test_zero_at_the_anchor_and_no_parameters():
    p = torch.randn(9, requires_grad=True)
    value = quadratic_penalty(p, p.detach().clone(), torch.rand(9), 1e6)
    assert value.item() == 0 and not torch.autograd.grad(value, [p])[0].any()
    assert quadratic_penalty([], [], [], 1.0).item() == 0


def test_gradient_has_the_same_bits_on_any_number_of_threads():
    p, a, w = torch.randn(200_000, requires_grad=True), torch.randn(200_000), torch.rand(200_000)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        value = quadratic_penalty(p, a, w, 3.0)
        found.append((value.detach(), torch.autograd.grad(value, [p])[0]))
    for x, y in zip(*found, strict=True):
        assert_same_bits(x, y)


def test_native_and_torch_agree_and_a_named_backend_does_not_fall_back():
    params, anchors, weights = lists(torch.float32)
    params = [p.requires_grad_() for p in params]
    found = []
    for backend in ("torch", "native"):
        value = quadratic_penalty(params, anchors, weights, 3.0, backend=backend)
        found.append((value, *torch.autograd.grad(value, params)))
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)
    with raises_sentence(BackendError, "float64"):
        quadratic_penalty(params[0].double(), anchors[0], weights[0], backend="native")
    with raises_sentence(BackendError, "contiguous"):
        quadratic_penalty(params[0], anchors[0].t().contiguous().t(), weights[0], backend="native")
    with raises_sentence(BackendError, "triton"):
        quadratic_penalty(params[0], anchors[0], weights[0], backend="triton")


def test_gradient_twice():
    p, a, w = torch.randn(9, requires_grad=True), torch.randn(9), torch.rand(9)
    value = quadratic_penalty(p, a, w, 3.0)
    first = torch.autograd.grad(value, [p], retain_graph=True)[0].clone()
    assert_same_bits(torch.autograd.grad(value, [p])[0], first)


def test_errors():
    x = torch.zeros(3)
    with raises_sentence(InputError, "anchors", "2", "1"):
        quadratic_penalty([x, x], [x], [x, x])
    with raises_sentence(InputError, "weights[0]", "[3]", "[4]"):
        quadratic_penalty(x, x, torch.zeros(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folding_six_tasks_equals_their_sum(dtype):
    shapes = [(40,), (3, 5)]
    tasks = [([torch.randn(s) for s in shapes], [torch.rand(s) for s in shapes]) for _ in range(6)]
    for _, weights in tasks:
        weights[0][:7] = 0  # never important
    tasks[3][1][0][7:11] = 0  # important in some tasks only
    folded = ([torch.zeros(s, dtype=dtype) for s in shapes],) * 2 + (0.0,)
    for anchors, weights in tasks:
        folded = fold_quadratics(folded[0], folded[1], anchors, weights, folded[2])
    anchor, weight, constant = folded
    theta = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    doubles = [([x.double() for x in a], [x.double() for x in w]) for a, w in tasks]
    expected = sum(definition(theta, a, w, 2.0) for a, w in doubles)
    ours = quadratic_penalty(theta, anchor, weight, 2.0) + 0.5 * 2.0 * constant
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=0)
    for g, w in zip(torch.autograd.grad(ours, theta), torch.autograd.grad(expected, theta), strict=True):
        torch.testing.assert_close(g, w, rtol=tolerance, atol=10 * tolerance)
    torch.testing.assert_close(anchor[0][:7].double(), tasks[-1][0][0][:7].double(), rtol=0, atol=0)
    assert not weight[0][:7].any()


def test_first_task_is_taken_as_it_is():
    anchor, weight = torch.randn(11), torch.rand(11)
    ours = fold_quadratics(torch.zeros(11), torch.zeros(11), anchor, weight)
    assert_same_bits(ours[0], anchor)
    assert_same_bits(ours[1], weight)
    assert ours[2] == 0.0


def test_folding_keeps_float32_for_low_precision_tasks():
    ours = fold_quadratics(torch.zeros(3), torch.zeros(3), torch.ones(3).bfloat16(), torch.ones(3).bfloat16())
    assert ours[0].dtype == ours[1].dtype == torch.float32
    with raises_sentence(InputError, "new_weight", "[4]"):
        fold_quadratics(torch.zeros(3), torch.zeros(3), torch.zeros(3), torch.zeros(4))
