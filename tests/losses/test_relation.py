"""Relational distillation as a module: its two terms and their weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses import RelationDistillation
from tests.check import raises_sentence


def rows(seed: int, n: int = 9, d: int = 5) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distances(x: Tensor) -> Tensor:
    gap = x[:, None] - x
    d = (gap.square().sum(-1) + torch.eye(len(x), dtype=x.dtype)).sqrt() * (1 - torch.eye(len(x), dtype=x.dtype))
    return d / d[d > 0].mean()


def angles(x: Tensor) -> Tensor:
    e = F.normalize(x[None] - x[:, None], dim=-1)
    return e @ e.mT


def truth(student: Tensor, teacher: Tensor, distance: float, angle: float) -> Tensor:
    terms = ((distance, distances), (angle, angles))
    return sum(w * F.huber_loss(relation(student), relation(teacher)) for w, relation in terms if w)


@pytest.mark.parametrize("weights", ((1.0, 2.0), (25.0, 0.0), (0.0, 3.0)))
def test_weights_of_the_two_terms(weights):
    student, teacher = rows(0).requires_grad_(), rows(1, d=4)
    loss, expected = RelationDistillation(*weights)(student, teacher), truth(student, teacher, *weights)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    ours, other = (torch.autograd.grad(x, student)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, other, rtol=1e-8, atol=1e-11)


def test_samm_normalises_logits():
    student, teacher = rows(0).requires_grad_(), rows(1)
    loss = RelationDistillation(25, 0, normalize=True)(student, teacher)
    expected = truth(F.normalize(student, dim=1), F.normalize(teacher, dim=1), 25, 0)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)


def test_a_turned_and_stretched_teacher_costs_nothing_and_gets_no_gradient():
    student = rows(0).requires_grad_()
    turn, _ = torch.linalg.qr(rows(2, 5))
    teacher = (3 * student.detach() @ turn + 7).requires_grad_()
    loss = RelationDistillation()(student, teacher)
    assert abs(float(loss.detach())) < 1e-20
    assert torch.autograd.grad(loss, teacher, allow_unused=True)[0] is None


@pytest.mark.parametrize("n", (0, 1, 2))
def test_too_few_rows_have_no_relation(n):
    assert float(RelationDistillation()(rows(0, n), rows(1, n))) == pytest.approx(0, abs=1e-15)


def test_errors():
    with raises_sentence(InputError, "angle_weight", "-1"):
        RelationDistillation(1, -1)
    with raises_sentence(InputError, "distance_weight", "'a'"):
        RelationDistillation("a")
    assert RelationDistillation(delta=np.float32(0.5)).delta == 0.5
    with raises_sentence(InputError, "distance_weight", "nan"):
        RelationDistillation(float("nan"))
    with raises_sentence(InputError, "both are 0"):
        RelationDistillation(0, 0)
    with raises_sentence(InputError, "delta", "0"):
        RelationDistillation(delta=0)
    with raises_sentence(InputError, "9", "8"):
        RelationDistillation()(rows(0), rows(1, 8))
