"""torch.compile sees operators: registered shapes and derivatives, no graph break, the same value and gradients."""

from __future__ import annotations

import pytest
import torch
import torch._inductor.config
from torch.library import opcheck

from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import _kl_op, _softmax_op, info_nce, siglip, similarity_kl, sup_con
from tests.ops.contrastive.cases import CASES, RELATIONS, leaves

OPS = torch.ops.pyfast_mmcl


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Nothing compiled before this test: the cache on disk would keep derivatives of an older version of the ops."""
    with torch._inductor.config.patch(force_disable_caches=True):
        torch._dynamo.reset()
        yield
    torch._dynamo.reset()


@pytest.fixture
def rows():
    """Two sides with gradients, a scale and a bias."""
    return (
        torch.randn(7, 5, requires_grad=True),
        torch.randn(7, 5, requires_grad=True),
        torch.tensor(3.0, requires_grad=True),
        torch.tensor(-2.0, requires_grad=True),
    )


def test_opcheck_of_the_softmax_losses(rows):
    a, b, scale, _ = rows
    ids, w = torch.arange(7), torch.full((), 1 / 14, dtype=torch.float64)
    several, shares = torch.arange(7) % 3, torch.full((7,), 0.5, dtype=torch.float64)
    words = ("auto", "auto")
    assert _softmax_op is not None
    opcheck(OPS.contrast.default, (a, b, scale, ids, ids, w, w, None, None, True, False, *words))
    opcheck(OPS.contrast.default, (a, b, scale, ids, ids, shares, None, None, None, False, False, *words))
    opcheck(OPS.contrast.default, (a, a, scale, several, several, w, None, shares, None, True, True, *words))
    opcheck(OPS.contrast.default, (a, b.detach(), scale, ids, ids, None, w, None, None, True, False, *words))


def test_opcheck_of_siglip(rows):
    a, b, scale, bias = rows
    ids = torch.arange(7)
    opcheck(OPS.siglip.default, (a, b, scale, bias, ids, ids, 1 / 7, "auto", "auto", True, True))
    opcheck(OPS.siglip.default, (a, b.detach(), scale, bias, ids, ids, 1.0, "auto", "torch", True, False))


def test_opcheck_of_distillation(rows):
    a, b, scale, _ = rows
    teachers = (torch.randn(7, 4), torch.randn(7, 4), torch.tensor(2.0))
    assert _kl_op is not None
    for words in ((1 / 14, 1 / 14, True, False, True), (None, 1.0, False, True, False)):
        opcheck(OPS.similarity_kl.default, (a, b, scale, *teachers, *words, "auto", "auto"))


@pytest.mark.parametrize("kind", ["distance", "angle"])
def test_opcheck_of_relations(rows, kind):
    opcheck(OPS.relation_distance.default, (rows[0], torch.randn(7, 3), kind, 1.0, True, True))


@pytest.mark.parametrize("case", [*CASES, *RELATIONS], ids=str)
def test_compiled_is_eager(case):
    given = leaves(6, 5, dtype=torch.float32)
    x = {k: v.clone().requires_grad_(k in case.learned) for k, v in given.items()}
    leaf = [x[k] for k in case.learned]

    def total(x: dict[str, torch.Tensor]) -> torch.Tensor:
        return case.call(contrastive, x).square().sum()

    value = total(x)
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, value)
    for one, other in zip(torch.autograd.grad(compiled, leaf), torch.autograd.grad(value, leaf), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * max(1.0, other.abs().max().item()))


def test_dynamic_shapes_and_no_gradient():
    def total(a, b, scale):
        labels = torch.arange(a.shape[0]) % 3
        value = info_nce(a, b, scale) + info_nce(a, b, 5.0, labels=labels) + siglip(a, b, scale, -1.0)
        return value + sup_con(a, labels, scale) + similarity_kl(a, b, b, a, student_scale=scale, teacher_scale=2.0)

    compiled = torch.compile(total, fullgraph=True, dynamic=True, backend="aot_eager")
    scale = torch.tensor(3.0, requires_grad=True)
    for n in (7, 9, 12):
        a, b = torch.randn(n, 5, requires_grad=True), torch.randn(n, 5)
        value = compiled(a, b, scale)
        torch.testing.assert_close(value, total(a, b, scale))
        value.backward()
        with torch.no_grad():
            torch.testing.assert_close(compiled(a, b, scale), value)


@pytest.mark.slow
def test_the_default_compiler(rows):
    a, b, scale, bias = rows
    step = torch.compile(lambda a, b, s, t: info_nce(a, b, s.exp()) + siglip(a, b, s, t), fullgraph=True)
    value = step(a, b, scale, bias)
    expected = info_nce(a, b, scale.exp()) + siglip(a, b, scale, bias)
    torch.testing.assert_close(value, expected)
    for one, other in zip(torch.autograd.grad(value, rows), torch.autograd.grad(expected, rows), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
