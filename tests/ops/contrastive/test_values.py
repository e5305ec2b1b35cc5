"""Values and gradients against whole matrices: exact in float64, at most twice the plain error below it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import PackedReference, _tiles, info_nce, reference, similarity_kl, sup_con
from tests.check import assert_no_worse, assert_same_bits, layouts
from tests.ops.contrastive.cases import CASES, RELATIONS, Case, leaves, ours, plain, truth

EVERY = pytest.mark.parametrize("case", CASES, ids=str)
ONE_OF_EACH = ("info_nce-several", "nt_xent", "sup_con", "siglip", "similarity_kl", "similarity_kl-right")
# The plain computation can be exact by luck; a last place of the values at hand is always allowed.
ATOL = {torch.float32: 2e-6, torch.float16: 2e-5, torch.bfloat16: 1e-4}


def assert_close(case: Case, given, **options) -> None:
    """Value and every gradient of the op ≤ 2 × the plain error."""
    dtype = given["a"].dtype
    value, grads = ours(case, given, **options)
    true_value, true_grads = truth(case, given)
    plain_value, plain_grads = plain(case, given)
    size = true_value.abs().max().item() if true_value.numel() else 0.0
    assert value.dtype == torch.float32
    assert_no_worse(value, plain_value, true_value, atol=2e-6 * max(1.0, size))
    for name, grad in grads.items():
        assert grad.dtype == given[name].dtype and grad.shape == given[name].shape
        atol = ATOL[dtype] * max(1.0, true_grads[name].abs().max().item())
        assert_no_worse(grad, plain_grads[name], true_grads[name], atol=atol)


@pytest.mark.parametrize("case", [*CASES, *RELATIONS], ids=str)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_float64_is_the_whole_matrix(case, n, monkeypatch):
    monkeypatch.setattr(_tiles, "_TILE", {torch.float32: 16, torch.float64: 16})
    given = leaves(n, features=5)
    value, grads = ours(case, given)
    true_value, true_grads = truth(case, given)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, true_value, rtol=1e-12, atol=1e-12)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, true_grads[name], rtol=1e-10, atol=1e-12)


@EVERY
@pytest.mark.parametrize("n, features", [(1, 3), (33, 64), (129, 97)])
def test_float32(case, n, features, backend):
    assert_close(case, leaves(n, features, dtype=torch.float32), backend=backend)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [65])
def test_low_precision_rows(case, dtype, n, backend):
    given = leaves(n, 31, dtype=dtype)
    assert_close(case, given, backend=backend)


@EVERY
def test_bfloat16_tiles_of_float32_rows(case, backend):
    given = leaves(97, 33, dtype=torch.float32)
    rounded = {k: v.bfloat16() if k in ("a", "b", "c", "ta", "tb", "tc") else v for k, v in given.items()}
    value, grads = ours(case, given, backend=backend, precision="bfloat16")
    true_value, true_grads = truth(case, given)
    plain_value, plain_grads = plain(case, rounded)
    assert_no_worse(value, plain_value, true_value, atol=1e-4 * max(1.0, true_value.abs().max().item()))
    for name, grad in grads.items():
        assert grad.dtype == torch.float32
        assert_no_worse(grad, plain_grads[name], true_grads[name], atol=1e-4)


@EVERY
def test_many_tiles(case, monkeypatch):
    monkeypatch.setattr(_tiles, "_TILE", {torch.float32: 16, torch.float64: 16})
    assert_close(case, leaves(65, 7, dtype=torch.float32), backend="torch")


SOME = pytest.mark.parametrize("case", [c for c in CASES if c.name in ONE_OF_EACH], ids=str)


@SOME
def test_several_compiled_tiles(case, isa):
    assert_close(case, leaves(500, 5, dtype=torch.float32), backend="native")


@pytest.mark.parametrize("case", [*CASES, *RELATIONS], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rows(case, dtype):
    given = leaves(0, dtype=dtype)
    value, grads = ours(case, given)
    expected, expected_grads = truth(case, given)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(grad.double(), expected_grads[name].double(), rtol=1e-5, atol=1e-6)


@SOME
def test_layouts(case, backend):
    given = leaves(33, 17, dtype=torch.float32)
    expected = ours(case, given, backend=backend)
    rows = [k for k in case.learned if given[k].ndim == 2] + (["ta", "tb", "tc"] if "kl" in case.name else [])
    for _, first in layouts(given[rows[0]]):
        x = {k: v.detach() for k, v in given.items()}
        for k in rows:
            x[k] = dict(layouts(x[k]))["transposed" if k != rows[0] else "contiguous"]
        x[rows[0]] = first
        torch.testing.assert_close(case.call(contrastive, x, backend=backend), expected[0], rtol=1e-5, atol=1e-6)


def test_a_transposed_leaf_gets_its_gradient(backend):
    a, b = torch.randn(16, 33).t().requires_grad_(), torch.randn(33, 16, requires_grad=True)
    info_nce(a, b, 1.0, backend=backend).backward()
    x, y = a.detach().double().requires_grad_(), b.detach().double().requires_grad_()
    reference.info_nce(x, y, 1.0).backward()
    torch.testing.assert_close(a.grad.double(), x.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(b.grad.double(), y.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", [c for c in CASES if str(c) in ONE_OF_EACH], ids=str)
def test_many_features(case, backend):
    assert_close(case, leaves(20, 4096, 10.0, torch.float32), backend=backend)


def test_it_is_the_value_of_two_cross_entropies(backend):
    given = leaves(50, dtype=torch.float32)
    s = (given["scale"] * given["a"] @ given["b"].T).double()
    y = torch.arange(50)
    expected = (F.cross_entropy(s, y) + F.cross_entropy(s.T, y)) / 2
    torch.testing.assert_close(
        info_nce(given["a"], given["b"], given["scale"], backend=backend).double(), expected, rtol=1e-6, atol=1e-6
    )


def test_two_numbers_are_the_weights_of_two_rows_and_no_pair_of_sides():
    x = leaves(2, 5, 3.0, torch.float64)
    given = info_nce(x["a"], x["b"], 3.0, weights=(0.25, 0.75))
    assert given == info_nce(x["a"], x["b"], 3.0, weights=torch.tensor([0.25, 0.75]))
    assert given != info_nce(x["a"], x["b"], 3.0)


def test_labels_in_any_order(backend):
    given = leaves(40, dtype=torch.float32)
    a, b, scale = given["a"], given["b"], given["scale"]
    order = torch.randperm(40)
    expected = info_nce(a, b, scale, backend=backend)
    shuffled = info_nce(a, b[order], scale, labels=(torch.arange(40), order), backend=backend)
    torch.testing.assert_close(shuffled, expected, rtol=1e-6, atol=1e-6)
    far_apart = torch.arange(40) * (2**40) - 2**50
    torch.testing.assert_close(info_nce(a, b, scale, labels=far_apart, backend=backend), expected, rtol=1e-6, atol=1e-6)


def test_rows_without_positives_leave_the_mean(backend):
    z = leaves(6, dtype=torch.float32)["a"]
    labels = torch.tensor([4, 1, 4, 2, 3, 9])
    rows = sup_con(z, labels, 10.0, reduction="none", backend=backend)
    assert torch.equal(rows[[1, 3, 4, 5]], torch.zeros(4)) and (rows[[0, 2]] > 0).all()
    torch.testing.assert_close(sup_con(z, labels, 10.0, backend=backend), rows.sum() / 2)
    lonely = z.clone().requires_grad_()
    nothing = sup_con(lonely, torch.arange(6), 10.0, backend=backend)
    nothing.backward()
    assert nothing == 0 and torch.equal(lonely.grad, torch.zeros_like(z))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_packed_reference_is_its_rows(backend, precision):
    given = leaves(21, 40, dtype=torch.float32)
    a, scale, texts = given["a"].requires_grad_(), given["scale"], torch.randn(77, 40)
    packed = PackedReference(texts, precision=precision)
    texts_seen, texts[:] = texts.clone(), 9.0  # a copy: what happens to the rows later does not matter
    pair = (torch.arange(21), torch.arange(77))
    options = {"precision": precision, "backend": backend}
    calls = [
        lambda b: info_nce(a, b, scale, labels=pair, direction="ab", **options),
        lambda b: similarity_kl(
            a, b, given["ta"], b, student_scale=scale, teacher_scale=9.0, direction="ab", **options
        ),
    ]
    for call in calls:
        expected, value = call(texts_seen), call(packed)
        # Without bfloat16 arithmetic the compiled kernels leave rows as exact as they come; packing has rounded them.
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if precision == "float32" else {"rtol": 2e-2, "atol": 2e-2}
        torch.testing.assert_close(value, expected, **tolerance)
        wanted, got = (torch.autograd.grad(v, a)[0] for v in (expected, value))
        torch.testing.assert_close(got / wanted.abs().max(), wanted / wanted.abs().max(), **tolerance)
    copied = copy.deepcopy(packed)
    assert_same_bits(calls[0](copied).detach(), calls[0](packed).detach())
    assert len(packed) == 77 and packed.features == 40 and precision in repr(packed)


def test_numpy_in_a_number_out():
    given = leaves(9, dtype=torch.float32)
    a, b = given["a"], given["b"]
    value = info_nce(a.numpy(), b.numpy(), 20.0)
    assert isinstance(value, float) and value == pytest.approx(float(info_nce(a, b, 20.0)))
    rows = info_nce(a.numpy(), b.numpy(), 20.0, direction="ab", reduction="none")
    assert_same_bits(rows, info_nce(a, b, 20.0, direction="ab", reduction="none"))
    assert isinstance(sup_con(a.numpy(), given["labels"].numpy(), 20.0), float)


@SOME
def test_same_bits_for_every_number_of_threads(case, isa):
    given = leaves(300, 48, dtype=torch.float32)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(ours(case, given, backend="native"))
    for value, grads in results[1:]:
        assert_same_bits(value, results[0][0])
        for name, grad in grads.items():
            assert_same_bits(grad, results[0][1][name])


@SOME
def test_autocast_does_not_reach_into_the_op(case, backend):
    given = leaves(20, dtype=torch.float32)
    expected = case.call(contrastive, given, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_bits(case.call(contrastive, given, backend=backend), expected)
