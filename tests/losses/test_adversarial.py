"""The critic's objectives against their formulas in float64."""

import pytest
import torch
from torch import nn

from pyfast_mmcl.losses.adversarial import gradient_penalty, wasserstein

G = torch.Generator().manual_seed(0)


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=G, dtype=torch.float64)


def test_wasserstein_is_a_difference_of_means():
    real, fake = rows(5).requires_grad_(True), rows(7)
    assert float(wasserstein(real, fake)) == pytest.approx(float(fake.sum()) / 7 - float(real.detach().sum()) / 5)
    assert torch.autograd.gradcheck(lambda r: wasserstein(r, fake), real)


def test_penalty_of_a_linear_critic_is_that_of_its_weights():
    w = rows(4)
    real, fake, share = rows(6, 4), rows(6, 4), torch.rand(6, generator=G, dtype=torch.float64)
    penalty = gradient_penalty(lambda x: x @ w, real, fake, share)
    assert float(penalty) == pytest.approx((float(w.norm()) - 1) ** 2, rel=1e-12)
    assert float(gradient_penalty(lambda x: x @ (w / w.norm()), real, fake, share)) == pytest.approx(0, abs=1e-20)


def test_penalty_is_taken_between_the_rows():
    # The slope of x² / 2 is x: the penalty shows where it was taken.
    real, fake, share = rows(6, 3), rows(6, 3), torch.rand(6, generator=G, dtype=torch.float64)
    between = share[:, None] * real + (1 - share[:, None]) * fake
    expected = (between.norm(dim=1) - 1).square().mean()
    got = gradient_penalty(lambda x: x.square().sum(1) / 2, real, fake, share)
    torch.testing.assert_close(got, expected)
    images = gradient_penalty(
        lambda x: x.square().flatten(1).sum(1) / 2, real.view(6, 1, 3, 1), fake.view(6, 1, 3, 1), share
    )
    torch.testing.assert_close(images, expected)


def test_penalty_teaches_the_critic_and_nobody_else():
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real, fake = rows(4, 3).requires_grad_(True), rows(4, 3).requires_grad_(True)
    share = torch.rand(4, generator=G, dtype=torch.float64)
    names = [name for name, _ in critic.named_parameters()]

    def penalty(*weights):
        def answer(x):
            return torch.func.functional_call(critic, dict(zip(names, weights, strict=True)), (x,)).flatten()

        return gradient_penalty(answer, real, fake, share)

    assert torch.autograd.gradcheck(penalty, tuple(critic.parameters()))
    penalty(*critic.parameters()).backward()
    assert real.grad is None and fake.grad is None
    assert all(p.grad.isfinite().all() for name, p in critic.named_parameters() if name != "2.bias")


def test_penalty_of_a_flat_critic_is_one_and_has_a_gradient():
    w = torch.zeros(3, requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ w, torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0.0, 1.0]))
    penalty.backward()
    assert float(penalty.detach()) == pytest.approx(1) and torch.isfinite(w.grad).all()
