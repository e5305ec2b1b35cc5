"""Distillation of similarity matrices, with the settings of the methods that use it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses import SimilarityDistillation
from pyfast_mmcl.ops.contrastive import PackedReference
from tests.check import raises_sentence

N, M, D = 17, 9, 6


def rows(seed: int, n: int = N, d: int = D) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(x, dim=1)


def kl(student: Tensor, teacher: Tensor, t: float = 1.0) -> Tensor:
    """KL of every row."""
    log_p, log_q = (teacher / t).log_softmax(1), (student / t).log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def same(loss: Tensor, truth: Tensor, *leaves: Tensor) -> None:
    torch.testing.assert_close(loss, truth, rtol=1e-10, atol=1e-12)
    ours, expected = torch.autograd.grad(loss, leaves), torch.autograd.grad(truth, leaves)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("scale_T2", (True, False))
def test_kdr_both_modalities_at_temperature_two(scale_T2):
    v, t, v_old, t_old = (rows(i).requires_grad_() for i in range(4))
    scale = torch.tensor(20.0, dtype=torch.float64).requires_grad_()
    module = SimilarityDistillation(2.0, scale_T2=scale_T2)
    loss = module(v, t, v_old, t_old, student_scale=scale, teacher_scale=15.0)
    s, old = scale * v @ t.T, (15 * v_old @ t_old.T).detach()
    truth = (4 if scale_T2 else 1) * (kl(s, old, 2.0).mean() + kl(s.T, old.T, 2.0).mean()) / 2
    assert torch.autograd.grad(loss, [v_old, t_old], allow_unused=True, retain_graph=True) == (None, None)
    same(loss, truth, v, t, scale)


def test_zscl_frozen_bank_on_both_sides():
    bank, image, image_0 = rows(1, M), rows(2).requires_grad_(), rows(3)
    module, packed = SimilarityDistillation(2.0, direction="ab"), PackedReference(bank)
    loss = module(image, packed, image_0, packed, student_scale=30.0, teacher_scale=30.0)
    z, z_0 = 30 * image @ bank.T, 30 * image_0 @ bank.T
    # ZSCL writes T²·CE; KL has the same gradient and is smaller by the teacher's entropy.
    p = (z_0 / 2).softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    cross_entropy = F.cross_entropy(z / 2, p)
    same(loss, 4 * (cross_entropy - entropy), image)


def test_mod_x_skips_rows_that_the_teacher_ranks_wrong():
    v, t, v_old = rows(0).requires_grad_(), rows(1).requires_grad_(), rows(2)
    t_old = F.normalize(v_old + 0.7 * rows(3), dim=1)
    s, old = v @ t.T, v_old @ t_old.T
    right, right_back = (x.argmax(1) == torch.arange(N) for x in (old, old.T))
    assert 0 < int(right.sum()) < N
    truth = ((kl(s, old) * right).sum() + (kl(s.T, old.T) * right_back).sum()) / 2
    loss = SimilarityDistillation(skip_wrong=True, reduction="sum")(v, t, v_old, t_old)
    same(loss, truth, v, t)
    mean = SimilarityDistillation(skip_wrong=True)(v, t, v_old, t_old)
    torch.testing.assert_close(mean, truth / N)


def test_mod_x_of_a_teacher_that_is_always_wrong_adds_nothing():
    v, t, v_old = rows(0).requires_grad_(), rows(1), rows(2)
    loss = SimilarityDistillation(skip_wrong=True)(v, t, v_old, v_old.roll(1, 0))
    assert float(loss.detach()) == 0 and torch.autograd.grad(loss, v)[0].abs().max() == 0


def test_ctp_within_a_modality():
    v, v_old = rows(0).requires_grad_(), rows(1, d=4)
    module = SimilarityDistillation(direction="ab", exclude_diagonal=True)
    loss = module(v, None, v_old, None, student_scale=1 / 0.07, teacher_scale=1 / 0.07)
    off = ~torch.eye(N, dtype=torch.bool)
    s, old = (x[off].reshape(N, N - 1) / 0.07 for x in (v @ v.T, v_old @ v_old.T))
    same(loss, kl(s, old).mean(), v)


@pytest.mark.parametrize("options", ({}, {"exclude_diagonal": True}, {"skip_wrong": True}))
def test_a_student_that_is_the_teacher_costs_nothing(options):
    v, t = rows(0).requires_grad_(), rows(1)
    loss = SimilarityDistillation(2.0, **options)(v, t, v.detach(), t, student_scale=50.0, teacher_scale=50.0)
    assert abs(float(loss.detach())) < 1e-13 and torch.autograd.grad(loss, v)[0].abs().max() < 1e-12


def test_errors():
    v = rows(0)
    with raises_sentence(InputError, "temperature", "0"):
        SimilarityDistillation(0.0)
    with raises_sentence(InputError, "reduction", "mean"):
        SimilarityDistillation(reduction="meen")
    with raises_sentence(InputError, "17", "9"):
        SimilarityDistillation()(v, v, rows(1, M), rows(1, M))
