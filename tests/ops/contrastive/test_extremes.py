"""Inputs at the ends: large scales, near-duplicates, columns far below the rest, equal rows, NaN and infinity."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as fuzz
from hypothesis import settings
from hypothesis import strategies as st

from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import info_nce, nt_xent, reference, siglip, similarity_kl, sup_con
from tests.check import assert_no_worse
from tests.ops.contrastive.cases import CASES, Leaves, leaves, ours, plain, truth


def compare(case, x: Leaves, backend: str, atol: float = 4e-6) -> None:
    """Value and gradients at most twice as wrong as the plain ones."""
    value, grads = ours(case, x, backend=backend)
    true_value, true_grads = truth(case, x)
    plain_value, plain_grads = plain(case, x)
    assert_no_worse(value, plain_value, true_value, atol=atol * max(1.0, true_value.abs().max().item()))
    for name, grad in grads.items():
        largest = max(1.0, true_grads[name].abs().max().item())
        assert_no_worse(grad, plain_grads[name], true_grads[name], atol=atol * largest)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_near_duplicates(case, scale, backend):
    x = leaves(40, 12, scale, torch.float32)
    x["a"][20:] = F.normalize(x["a"][:20] + 1e-4 * torch.randn(20, 12), dim=1)
    x["b"] = x["a"].clone()
    x["c"][:40] = x["a"]
    compare(case, x, backend)


@pytest.mark.parametrize("n, low", [(40, 3), (150, 77)])
def test_a_column_far_below_the_rest(n, low, backend):
    """Its entries lie 150 nats below every row's maximum: shared exponentials would all be zero."""
    given = leaves(n, 8, 1.0, torch.float32)
    a = torch.cat([torch.full((n, 1), 150.0), given["a"]], dim=1)
    b = torch.cat([torch.ones(n, 1), given["b"]], dim=1)
    b[low, 0] = 0.0
    x = {**given, "a": a, "b": b, "ta": a, "tb": b.clone()}
    for case in CASES:
        if "c" not in case.learned:
            # The teacher's entries are 2250: a last place of them is 2.4e-4, in every row of the sum.
            compare(case, x, backend, atol=1e-3 if "kl" in case.name else 3e-5)
    value, grads = ours(CASES[0], x, backend=backend)
    assert value.isfinite() and grads["b"][low].abs().max() > 1e-4


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_rows(case, backend):
    if case.name == "similarity_kl-right":
        pytest.skip("whether t_ij > t_ii among equal rows is for rounding to say; ties have a test of their own")
    x = leaves(33, 8, 100.0, torch.float32)
    for name in ("a", "b", "c", "ta", "tb", "tc"):
        x[name] = x[name][:1].expand_as(x[name]).contiguous()
        x[name][:] = x["a"][0]
    compare(case, x, backend)


def test_a_lonely_positive_that_dominates_keeps_its_digits(backend):
    """The loss is e^-40: log-sum-exp and positive must not be subtracted in low precision."""
    a = torch.eye(8)
    value, grad = _value_and_grad(a, lambda z: info_nce(z, a, 40.0, backend=backend))
    expected = 7 * torch.exp(torch.tensor(-40.0, dtype=torch.float64))
    if backend == "torch":
        assert value.double() == pytest.approx(expected.item(), abs=1e-15)
    assert 0 <= value < 1e-6 and grad.abs().max() < 1e-5


def _value_and_grad(x, call):
    leaf = x.clone().requires_grad_()
    value = call(leaf)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nan_reaches_loss_and_gradient(case, backend):
    where = 18
    x = leaves(20, 8, dtype=torch.float32)
    side = "a" if "a" in case.learned else "c"
    x[side][where, 3] = torch.nan
    value, grads = ours(case, x, backend=backend)
    if value.ndim == 0:
        assert value.isnan()
    else:
        true, _ = truth(case, x)
        assert torch.equal(value.isnan(), true.isnan()) and value.isnan().any()
    assert grads[side][where].isnan().any() and grads["scale"].isnan()


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf])
def test_infinity_is_never_a_number(bad, backend):
    for case in CASES:
        x = leaves(20, 8, dtype=torch.float32)
        side = "a" if "a" in case.learned else "c"
        x[side][5, 3] = bad
        value, grads = ours(case, x, backend=backend)
        assert not value.isfinite().all() and not all(g.isfinite().all() for g in grads.values()), case


def test_a_scale_of_zero(backend):
    x = leaves(12, dtype=torch.float32)
    for case in CASES:
        compare(case, {**x, "scale": torch.tensor(0.0)}, backend)


def test_scale_is_applied_after_the_product(backend):
    """Rows whose products fit float16's range only by their sum stay finite."""
    a = torch.full((4, 3), 200.0, dtype=torch.float16)
    assert info_nce(a, a, 1e-4, backend=backend) == pytest.approx(torch.log(torch.tensor(4.0)).item(), rel=1e-5)


@settings(max_examples=40)
@fuzz(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    features=st.integers(1, 20),
    scale=st.floats(-50, 100),
    classes=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    direction=st.sampled_from(["both", "ab", "ba"]),
    word=st.sampled_from(["torch", "auto"]),
)
def test_any_shape(n, m, features, scale, classes, seed, direction, word):
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(n, features, generator=draw), torch.randn(m, features, generator=draw)
    labels = tuple(torch.randint(0, classes, (k,), generator=draw) for k in (n, m))
    pairs = [
        (info_nce, reference.info_nce, (a, b, scale), {"labels": labels, "direction": direction}),
        (sup_con, reference.sup_con, (a, labels[0], scale), {}),
        (nt_xent, reference.nt_xent, (torch.cat([a, a]), scale), {}),
        (siglip, reference.siglip, (a, b, scale, 1.5), {"labels": labels}),
        (
            similarity_kl,
            reference.similarity_kl,
            (a, b, a + 1, b),
            {"student_scale": scale, "teacher_scale": 2.0, "direction": direction, "exclude_diagonal": seed % 2 == 1},
        ),
    ]
    for op, whole, arguments, options in pairs:
        exact = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in arguments]
        expected = whole(*exact, **options)
        value = op(*arguments, **options, backend=word)
        size = max(1.0, abs(scale) * features * 10)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6 * size)


def test_wrong_rows_of_the_teacher_contribute_nothing(backend):
    x = leaves(30, 8, dtype=torch.float32)
    sa = x["a"].clone().requires_grad_()
    backwards = x["tb"].flip(0)  # the teacher pairs almost every row with another one
    rows = similarity_kl(
        sa, x["b"], x["ta"], backwards, student_scale=5.0, teacher_scale=9.0, direction="ab", skip_wrong=True,
        reduction="none", backend=backend,
    )  # fmt: skip
    t = x["ta"].double() @ backwards.double().T
    wrong = (t > t.diagonal()[:, None]).any(1)
    assert wrong.any() and torch.equal(rows == 0, wrong)
    rows.sum().backward()
    assert torch.equal(sa.grad.abs().sum(1) == 0, wrong)


def test_ties_of_the_teacher_are_right(backend):
    x = leaves(10, 8, dtype=torch.float32)
    same = x["ta"][:1].repeat(10, 1)
    rows = similarity_kl(
        x["a"], x["b"], same, same, student_scale=5.0, teacher_scale=9.0, direction="ab", skip_wrong=True,
        reduction="none", backend=backend,
    )  # fmt: skip
    assert (rows > 0).all()


def test_the_family_is_what_it_says():
    assert set(contrastive.__all__) == {
        *("PackedReference", "info_nce", "nt_xent", "relation_distance"),
        *("siglip", "similarity_kl", "sup_con"),
    }
