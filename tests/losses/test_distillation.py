"""Distillation of logits and features against the formulas in float64."""

import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses import FeatureDistillation, LogitsDistillation
from tests.check import SIZES, assert_no_worse, raises_sentence


def rows(n: int, c: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(n, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kl(student: torch.Tensor, teacher: torch.Tensor, t: float) -> torch.Tensor:
    p, q = (teacher / t).softmax(-1), (student / t).softmax(-1)
    return (p * (p / q).log()).sum(-1)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("scale_T2", (True, False))
def test_logits(n, scale_T2):
    student, teacher = rows(n, 10).requires_grad_(), rows(n, 10, 1)
    loss = LogitsDistillation(3.0, scale_T2=scale_T2, reduction="sum")(student, teacher)
    truth = (9 if scale_T2 else 1) * kl(student, teacher, 3.0).sum()
    torch.testing.assert_close(loss, truth, rtol=1e-12, atol=1e-12)
    # The gradient in closed form: T (q − p) with the factor T², (q − p)/T without.
    expected = (3.0 if scale_T2 else 1 / 3.0) * ((student / 3).softmax(-1) - (teacher / 3).softmax(-1))
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], expected.detach(), rtol=1e-10, atol=1e-12)


def test_logits_mean_none_and_positions():
    student, teacher = rows(12, 5).reshape(3, 4, 5), rows(12, 5, 1).reshape(3, 4, 5)
    each = LogitsDistillation(reduction="none")(student, teacher)
    torch.testing.assert_close(each, 4 * kl(student, teacher, 2.0), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(LogitsDistillation()(student, teacher), each.mean())


def test_cross_entropy_differs_by_the_teachers_entropy_and_not_in_the_gradient():
    student, teacher = rows(8, 6).requires_grad_(), rows(8, 6, 1)
    losses = [LogitsDistillation(2.0, objective=x)(student, teacher) for x in ("kl", "cross_entropy")]
    p = (teacher / 2).softmax(-1)
    entropy = 4 * -(p * p.log()).sum(-1).mean()
    torch.testing.assert_close(losses[1] - losses[0], entropy, rtol=1e-12, atol=1e-13)
    grads = [torch.autograd.grad(x, student)[0] for x in losses]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-13)


def test_a_teacher_gets_no_gradient_and_equal_logits_cost_nothing():
    student = rows(8, 6).requires_grad_()
    teacher = student.detach().clone().requires_grad_()
    for module in (LogitsDistillation(), FeatureDistillation(), FeatureDistillation("cosine")):
        loss = module(student, teacher)
        torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-14)
        grads = torch.autograd.grad(loss, [student, teacher], allow_unused=True)
        assert grads[1] is None and grads[0].abs().max() < 1e-13


def test_a_class_that_the_teacher_excludes_is_left_out():
    student, teacher = rows(4, 5).requires_grad_(), rows(4, 5, 1)
    teacher[:, 2] = -torch.inf
    loss = LogitsDistillation(1.0)(student, teacher)
    p, log_q = teacher.softmax(-1), student.log_softmax(-1)
    kept = [0, 1, 3, 4]
    truth = (p * (p.log() - log_q))[:, kept].sum(-1).mean()
    torch.testing.assert_close(loss, truth, rtol=1e-12, atol=0)
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


@pytest.mark.parametrize("n", SIZES)
def test_features(n):
    student, teacher = rows(n, 7).requires_grad_(), rows(n, 7, 1)
    cases = {
        FeatureDistillation(reduction="sum"): lambda: (student - teacher).square().sum(),
        FeatureDistillation(average_features=True, reduction="sum"): lambda: (student - teacher).square().sum() / 7,
        FeatureDistillation("cosine", reduction="sum"): lambda: (1 - F.cosine_similarity(student, teacher)).sum(),
    }
    for module, formula in cases.items():
        loss, truth = module(student, teacher), formula()
        torch.testing.assert_close(loss, truth, rtol=1e-12, atol=1e-12)
        ours, expected = torch.autograd.grad(loss, student)[0], torch.autograd.grad(truth, student)[0]
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


def test_features_as_mse_loss():
    student, teacher = rows(9, 7), rows(9, 7, 1)
    ours = FeatureDistillation(average_features=True)(student, teacher)
    torch.testing.assert_close(ours, F.mse_loss(student, teacher))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize(
    "module", (LogitsDistillation(), FeatureDistillation(), FeatureDistillation("cosine")), ids=str
)
def test_low_precision_is_reduced_in_float32(module, dtype):
    student, teacher = rows(33, 17).to(dtype), rows(33, 17, 1).to(dtype)
    loss = module(student, teacher)
    assert loss.dtype == torch.float32
    truth = module(student.double(), teacher.double())
    assert_no_worse(loss, module(student.float(), teacher.float()), truth, atol=2e-6 * float(truth))


def test_nan_reaches_the_loss():
    student = rows(3, 4)
    student[1, 2] = torch.nan
    for module in (LogitsDistillation(), FeatureDistillation(), FeatureDistillation("cosine")):
        assert module(student, rows(3, 4, 1)).isnan()


def test_errors():
    with raises_sentence(InputError, "shapes", "[3, 4]", "[3, 5]"):
        LogitsDistillation()(rows(3, 4), rows(3, 5))
    with raises_sentence(InputError, "torch.int64", ".float()"):
        FeatureDistillation()(torch.zeros(2, 2, dtype=torch.int64), rows(2, 2))
    with raises_sentence(InputError, "[3, 0]"):
        FeatureDistillation()(rows(3, 0), rows(3, 0))
    with raises_sentence(InputError, "temperature", "0"):
        LogitsDistillation(0)
    with raises_sentence(InputError, "objective", "cross_entropy", "'cross_entrpy'"):
        LogitsDistillation(objective="cross_entrpy")
    with raises_sentence(InputError, "measure", "cosine"):
        FeatureDistillation("cosin")
    with raises_sentence(InputError, "average_features", "mse"):
        FeatureDistillation("cosine", average_features=True)
    with raises_sentence(InputError, "reduction", "mean"):
        FeatureDistillation(reduction="men")
