"""Derivatives: gradcheck, sides that are frozen, upstream gradients, and what a second derivative says."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import _pairs, _tiles, info_nce, nt_xent, pairs_torch, siglip, similarity_kl
from tests.check import assert_same_bits, raises_sentence
from tests.ops.contrastive.cases import CASES, RELATIONS, leaves, ours


@pytest.mark.parametrize("case", [*CASES, *RELATIONS], ids=str)
def test_gradcheck(case, monkeypatch):
    monkeypatch.setattr(_tiles, "_TILE", {torch.float32: 3, torch.float64: 3})
    given = leaves(4, features=3, scale=2.0)
    given["bias"] = torch.tensor(-0.5, dtype=torch.float64)
    inputs = [given[k].clone().requires_grad_() for k in case.learned]

    def value(*tensors: torch.Tensor) -> torch.Tensor:
        return case.call(contrastive, {**given, **dict(zip(case.learned, tensors, strict=True))})

    assert gradcheck(value, inputs, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frozen_sides(case, backend):
    given = leaves(20, 9, dtype=torch.float32)
    _, together = ours(case, given, backend=backend)
    for name in case.learned:
        x = {k: v.clone().requires_grad_(k == name) for k, v in given.items() if v.is_floating_point()}
        value = case.call(contrastive, {**given, **x}, backend=backend)
        upstream = torch.linspace(0.5, 1.5, max(value.numel(), 1))[: value.numel()].reshape(value.shape)
        value.backward(upstream)
        torch.testing.assert_close(x[name].grad, together[name], rtol=2e-5, atol=1e-6)
        assert all(v.grad is None for k, v in x.items() if k != name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_gradient_no_graph(case, backend):
    given = leaves(9, dtype=torch.float32)
    value = case.call(contrastive, given, backend=backend)
    assert not value.requires_grad
    with torch.no_grad():
        x = {k: v.clone().requires_grad_(k in case.learned) for k, v in given.items()}
        assert_same_bits(case.call(contrastive, x, backend=backend), value)


@pytest.mark.parametrize("case", [*CASES, *RELATIONS], ids=str)
def test_the_upstream_gradient_is_a_factor(case):
    given = leaves(9, dtype=torch.float32)
    x = {k: v.clone().requires_grad_(k in case.learned) for k, v in given.items()}
    leaf = [x[k] for k in case.learned]
    value = case.call(contrastive, x).sum()
    once = torch.autograd.grad(value, leaf, retain_graph=True)
    again = torch.autograd.grad(value, leaf, retain_graph=True)
    thrice = torch.autograd.grad(value, leaf, torch.tensor(-3.0))
    for one, same, three in zip(once, again, thrice, strict=True):
        assert_same_bits(one, same)
        torch.testing.assert_close(three, -3 * one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [*CASES, *RELATIONS], ids=str)
def test_a_second_derivative_is_refused(case):
    given = leaves(6)
    x = {k: v.clone().requires_grad_(k in case.learned) for k, v in given.items()}
    value = case.call(contrastive, x).sum()
    (first,) = torch.autograd.grad(value, x["c" if "a" not in case.learned else "a"], create_graph=True)
    with raises_sentence(RuntimeError, "create_graph=True", "reference"):
        first.square().sum().backward()


def test_the_shape_of_a_scale_is_that_of_its_gradient():
    given = leaves(6)
    for shape in ((), (1,)):
        scale = torch.full(shape, 3.0, requires_grad=True)
        bias = torch.full(shape, -3.0, requires_grad=True)
        a, b = given["a"].float(), given["b"].float()
        total = info_nce(a, b, scale) + siglip(a, b, scale, bias) + nt_xent(torch.cat([a, b]), scale)
        total = total + similarity_kl(a, b, b, a, student_scale=scale, teacher_scale=scale)
        total.backward()
        assert scale.grad.shape == shape and bias.grad.shape == shape


def test_rows_of_two_precisions_meet_in_float32():
    given = leaves(12, dtype=torch.bfloat16)
    a = given["a"].requires_grad_()
    b = given["b"].float().requires_grad_()
    info_nce(a, b, 10.0).backward()
    x, y = a.detach().float().requires_grad_(), b.detach().requires_grad_()
    info_nce(x, y, 10.0).backward()
    assert a.grad.dtype == torch.bfloat16 and b.grad.dtype == torch.float32
    assert_same_bits(a.grad, x.grad.bfloat16())
    assert_same_bits(b.grad, y.grad)


def test_backward_after_a_change_in_place_is_an_error():
    a, b = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    value = info_nce(a * 1, b, 1.0)
    b.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_dscale_without_other_gradients(needs, symmetric, backend):
    a = torch.randn(37, 6)
    b = a if symmetric else torch.randn(37, 6)
    ids = {"row_ids": torch.arange(37) % 5, "col_ids": torch.arange(37) % 5}
    pull = _pairs.Pull(torch.full((37,), 3.0), torch.rand(37), torch.rand(37))
    side = {"row": pull, "col": None if symmetric else pull}
    options = {**ids, "exclude_self": symmetric, "symmetric": symmetric}
    expected = pairs_torch.pair_grads(a.double(), b.double(), 0.7, **side, **options)[2]
    got = _pairs.pair_grads(a, b, 0.7, **side, **options, need_a=needs[0], need_b=needs[1], backend=backend)
    assert (got[0] is None, got[1] is None) == (not needs[0], not needs[1] or symmetric)
    torch.testing.assert_close(got[2], expected, rtol=1e-4, atol=1e-4)
