"""Relational distillation: against whole matrices, near-duplicates, blocks, and the invariances of its geometry."""

from __future__ import annotations

import pytest
import torch

from pyfast_mmcl.ops.contrastive import _relation, reference, relation_distance
from tests.check import assert_no_worse, assert_same_bits, layouts

KINDS = pytest.mark.parametrize("kind", ["distance", "angle"])


def value_and_grad(module, student, teacher, **options):
    leaf = student.clone().requires_grad_()
    value = module.relation_distance(leaf, teacher, **options)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


class Ours:
    relation_distance = staticmethod(relation_distance)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n, block", [(1, 64), (2, 64), (17, 64), (33, 100), (40, 2**20)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_twice_the_plain_error(kind, dtype, n, block, reduction, monkeypatch):
    monkeypatch.setattr(_relation, "_BLOCK_VALUES", block)
    s, t = torch.randn(n, 12).to(dtype), torch.randn(n, 7).to(dtype)
    options = {"kind": kind, "delta": 0.25, "reduction": reduction}
    value, grad = value_and_grad(Ours, s, t, **options)
    true_value, true_grad = value_and_grad(reference, s.double(), t.double(), **options)
    plain_value, plain_grad = value_and_grad(reference, s, t, **options)
    assert value.dtype == torch.float32 and grad.dtype == dtype
    assert_no_worse(value, plain_value, true_value, atol=1e-6 * max(1.0, true_value.item()))
    size = max(1.0, true_grad.abs().max().item())
    assert_no_worse(grad, plain_grad, true_grad, atol=(2e-6 if dtype == torch.float32 else 1e-5) * size)


@KINDS
def test_near_duplicates_far_from_the_origin(kind):
    """A Gram matrix of these rows holds nothing but rounding where it should hold distances."""
    s = 1000.0 + torch.randn(20, 6) * torch.logspace(-2, 1, 20)[:, None]
    t = torch.randn(20, 6)
    value, grad = value_and_grad(Ours, s, t, kind=kind)
    true_value, true_grad = value_and_grad(reference, s.double(), t.double(), kind=kind)
    torch.testing.assert_close(value.double(), true_value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(grad.double(), true_grad, rtol=1e-4, atol=1e-5 * true_grad.abs().max().item())


@KINDS
def test_coinciding_rows_have_no_direction(kind):
    s, t = torch.randn(9, 4), torch.randn(9, 4)
    s[4], s[7] = s[2], s[2]
    value, grad = value_and_grad(Ours, s, t, kind=kind)
    true_value, true_grad = value_and_grad(reference, s.double(), t.double(), kind=kind)
    torch.testing.assert_close(value.double(), true_value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(grad.double(), true_grad, rtol=1e-4, atol=1e-6)
    same, nothing = value_and_grad(Ours, torch.ones(5, 3), torch.zeros(5, 2), kind=kind)
    assert same == 0 and torch.equal(nothing, torch.zeros(5, 3))


@KINDS
def test_geometry_decides(kind):
    """The student may be moved, turned and scaled: only distances in proportion, or angles, count."""
    t = torch.randn(12, 5, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    assert relation_distance(3 * t @ turn + 7, t, kind=kind) < 1e-28
    s = torch.randn(12, 5, dtype=torch.float64)
    expected = relation_distance(s, t, kind=kind)
    torch.testing.assert_close(relation_distance(0.1 * s @ turn - 2, t, kind=kind), expected)
    assert expected > 1e-3


@KINDS
def test_nan_reaches_loss_and_gradient(kind):
    for side in (0, 1):
        rows = [torch.randn(6, 3), torch.randn(6, 3)]
        rows[side][2, 1] = torch.nan
        value, grad = value_and_grad(Ours, *rows, kind=kind)
        assert value.isnan() and grad.isnan().any()


@KINDS
def test_the_teacher_is_constant_and_layouts_do_not_matter(kind):
    s, t = torch.randn(15, 8), torch.randn(15, 8, requires_grad=True)
    expected = relation_distance(s, t, kind=kind)
    assert not expected.requires_grad
    for _, x in layouts(s):
        for _, y in layouts(t.detach()):
            torch.testing.assert_close(relation_distance(x, y, kind=kind), expected, rtol=1e-5, atol=1e-7)
    assert relation_distance(s.numpy(), t.detach().numpy(), kind=kind) == pytest.approx(expected.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_bits(relation_distance(s, t, kind=kind), expected)


def test_same_bits_for_every_number_of_threads():
    s, t = torch.randn(300, 16), torch.randn(300, 16)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(value_and_grad(Ours, s, t))
    for value, grad in results[1:]:
        assert_same_bits(value, results[0][0])
        assert_same_bits(grad, results[0][1])
