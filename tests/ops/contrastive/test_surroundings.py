"""What torch is set to around a call, and what happens to arguments between forward and backward."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import PackedReference, info_nce, nt_xent, siglip, similarity_kl, sup_con
from tests.ops.contrastive.cases import CASES, leaves, ours

SMALL, LARGE = 20, 300  # value and gradients from one compiled call, and from two


def same(found, expected):
    value, grads = found
    assert value.dtype == expected[0].dtype and torch.equal(value, expected[0])
    assert all(torch.equal(g, expected[1][k]) and g.device == expected[1][k].device for k, g in grads.items())


@pytest.fixture
def float64_by_default():
    """Switches torch's default float type inside the test; put back after it."""
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("word, n", [("auto", SMALL), ("auto", LARGE), ("torch", SMALL)])
def test_the_default_dtype_does_not_matter(word, n, float64_by_default):
    x = leaves(n, 8, dtype=torch.float32)
    expected = [ours(case, x, backend=word) for case in CASES]
    float64_by_default()
    for case, value in zip(CASES, expected, strict=True):
        same(ours(case, x, backend=word), value)


@pytest.mark.parametrize("word, n", [("auto", SMALL), ("auto", LARGE), ("torch", SMALL)])
def test_the_default_device_does_not_matter(word, n):
    x = leaves(n, 8, dtype=torch.float32)
    for case in CASES:
        expected = ours(case, x, backend=word)
        with torch.device("meta"):
            same(ours(case, x, backend=word), expected)


@pytest.mark.parametrize("n", [SMALL, LARGE])
def test_a_pending_sign_is_read(n, backend):
    """The imaginary part of a conjugate: torch keeps the sign as a flag, memory does not hold it."""
    turned = torch.randn(n, 8, dtype=torch.complex64).conj().imag
    plain, b = turned.resolve_neg().clone(), torch.randn(n, 8)
    assert turned.is_neg() and not plain.is_neg()
    for call in (
        lambda a: info_nce(a, b, 2.0, backend=backend),
        lambda a: siglip(b, a, 2.0, -1.0, backend=backend),
        lambda a: nt_xent(a, 2.0, backend=backend),
        lambda a: info_nce(b, PackedReference(a), 2.0, backend=backend),
    ):
        assert torch.equal(call(turned), call(plain))


@pytest.mark.parametrize("n", [SMALL, LARGE])
def test_teachers_labels_and_banks_of_inference_mode(n, backend):
    """A teacher is commonly run under it; its tensors cannot be saved by autograd."""
    a, b = (torch.randn(n, 8).requires_grad_() for _ in range(2))
    with torch.inference_mode():
        ta, tb, labels = torch.randn(n, 8), torch.randn(n, 8), torch.arange(n) // 2
        bank = PackedReference(tb)
    for call in (
        lambda ta, tb, ids, bank: similarity_kl(a, b, ta, tb, student_scale=2.0, teacher_scale=1.0, backend=backend),
        lambda ta, tb, ids, bank: similarity_kl(a, bank, ta, bank, student_scale=2.0, teacher_scale=1, backend=backend),
        lambda ta, tb, ids, bank: info_nce(a, bank, 2.0, labels=ids, backend=backend),
        lambda ta, tb, ids, bank: sup_con(a, ids, 2.0, backend=backend),
    ):
        found = torch.autograd.grad(call(ta, tb, labels, bank), a)[0]
        expected = torch.autograd.grad(call(ta.clone(), tb.clone(), labels.clone(), PackedReference(tb.clone())), a)[0]
        assert torch.equal(found, expected)


def test_labels_that_change_before_backward_are_noticed(backend):
    z = torch.randn(LARGE, 8, requires_grad=True)
    for call in (lambda ids: info_nce(z, z, 2.0, labels=ids, backend=backend), lambda ids: sup_con(z, ids, 2.0)):
        ids = torch.arange(LARGE) // 2
        loss = call(ids)
        ids.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        numbers = np.arange(LARGE) // 2
        expected = torch.autograd.grad(call(numbers), z)[0]
        loss = call(numbers)
        numbers[:] = 0  # torch cannot notice; the values of the call count
        assert torch.equal(torch.autograd.grad(loss, z)[0], expected)


@pytest.mark.parametrize("n", [SMALL, LARGE])
def test_nan_of_the_teacher_is_not_skipped_as_wrong(n, backend):
    """A diagonal of NaN is exceeded by nothing."""
    x = leaves(n, 8, dtype=torch.float32)
    for direction in ("ab", "ba", "both"):
        for side in (2, 3):
            rows = [x[k].clone() for k in ("a", "b", "ta", "tb")]
            rows[side][3, 2] = torch.nan
            options = {"student_scale": 1.0, "teacher_scale": 9.0, "direction": direction, "backend": backend}
            assert similarity_kl(*rows, skip_wrong=True, **options).isnan()
            each = similarity_kl(*rows, skip_wrong=True, reduction="none", **options)
            assert each[3].isnan()
    rows = [x[k] for k in ("a", "b", "ta", "tb")]
    assert similarity_kl(*rows, student_scale=1.0, teacher_scale=torch.nan, skip_wrong=True, backend=backend).isnan()


@pytest.mark.parametrize(
    "call",
    [
        lambda a, s: torch.func.vmap(lambda x: info_nce(x, x, 2.0))(torch.stack([a, a])),
        lambda a, s: torch.func.grad(lambda x: siglip(x, a, 2.0, 0.0))(a),
        lambda a, s: torch.func.grad(lambda t: nt_xent(a, t))(s),
        lambda a, s: torch.func.jvp(lambda x: similarity_kl(x, a, a, a, student_scale=1, teacher_scale=1), (a,), (a,)),
        lambda a, s: torch.func.grad(lambda x: contrastive.relation_distance(x, a))(a),
    ],
)
def test_torch_func_is_refused_in_a_sentence(call):
    with pytest.raises(InputError, match=r"torch\.func.*reference"):
        call(torch.randn(6, 4), torch.tensor(2.0))


def test_forward_mode_is_refused_instead_of_losing_the_tangent():
    a = torch.randn(6, 4)
    with torch.autograd.forward_ad.dual_level(), pytest.raises(InputError, match="forward-mode"):
        info_nce(torch.autograd.forward_ad.make_dual(a, a), a, 2.0)


def test_a_bank_is_copied_and_pickled_after_use():
    a, bank = torch.randn(LARGE, 8), PackedReference(torch.randn(LARGE, 8))
    expected = info_nce(a, bank, 2.0)
    for copied in (copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))):
        assert torch.equal(info_nce(a, copied, 2.0), expected)
