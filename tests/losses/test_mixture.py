"""VaDE's mixture terms against Monte Carlo and against the sums of equation 12, in float64."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from pyfast_mmcl.losses.mixture import mixture_divergence, mixture_log_density, responsibilities

G = torch.Generator().manual_seed(0)
LOG_WEIGHT = torch.randn(3, generator=G, dtype=torch.float64).log_softmax(0)
MEAN = torch.randn(3, 4, generator=G, dtype=torch.float64)
LOG_VARIANCE = torch.randn(3, 4, generator=G, dtype=torch.float64) * 0.3
MIXTURE = (LOG_WEIGHT, MEAN, LOG_VARIANCE)
MU = torch.randn(5, 4, generator=G, dtype=torch.float64)
LOG_S = torch.randn(5, 4, generator=G, dtype=torch.float64) * 0.3


def test_density_is_torch_s_mixture():
    parts = Independent(Normal(MEAN, (LOG_VARIANCE / 2).exp()), 1)
    torch.testing.assert_close(mixture_log_density(MU, *MIXTURE), parts.log_prob(MU[:, None]) + LOG_WEIGHT)
    mixture = MixtureSameFamily(Categorical(logits=LOG_WEIGHT), parts)
    torch.testing.assert_close(mixture_log_density(MU, *MIXTURE).logsumexp(1), mixture.log_prob(MU))
    torch.testing.assert_close(responsibilities(MU, *MIXTURE).sum(1), torch.ones(5, dtype=torch.float64))


def test_divergence_is_equation_12_summed_by_hand():
    gamma = responsibilities(MU, *MIXTURE)
    for i, got in enumerate(mixture_divergence(gamma, MU, LOG_S, *MIXTURE).tolist()):
        total = 0.0
        for c in range(3):
            g = float(gamma[i, c])
            for j in range(4):
                s2 = math.exp(LOG_VARIANCE[c, j])
                distance = (float(MU[i, j]) - float(MEAN[c, j])) ** 2
                total += 0.5 * g * (math.log(s2) + math.exp(LOG_S[i, j]) / s2 + distance / s2)
            total -= g * (float(LOG_WEIGHT[c]) - math.log(g))
        total -= 0.5 * sum(1 + float(LOG_S[i, j]) for j in range(4))
        assert got == pytest.approx(total, rel=1e-10)


def test_divergence_is_the_expectation_that_it_stands_for():
    gamma = responsibilities(MU[:1], *MIXTURE)
    noise = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = MU[:1] + noise * (LOG_S[:1] / 2).exp()
    q_z = Independent(Normal(MU[0], (LOG_S[0] / 2).exp()), 1).log_prob(z)
    log_joint = mixture_log_density(z, *MIXTURE)
    samples = q_z + (gamma * (gamma.log() - log_joint)).sum(1)
    assert float(mixture_divergence(gamma, MU[:1], LOG_S[:1], *MIXTURE)) == pytest.approx(
        float(samples.mean()), abs=0.02
    )


def test_a_code_that_is_its_component_costs_nothing():
    gamma = torch.eye(3, dtype=torch.float64)
    one = (torch.zeros(3, dtype=torch.float64), MEAN, LOG_VARIANCE)
    torch.testing.assert_close(
        mixture_divergence(gamma, MEAN, LOG_VARIANCE, *one), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_gradients():
    inputs = [x.clone().requires_grad_(True) for x in (MU, LOG_S, *MIXTURE)]

    def bound(mu, log_s, *mixture):
        return mixture_divergence(responsibilities(mu, *mixture), mu, log_s, *mixture).sum()

    assert torch.autograd.gradcheck(bound, inputs)
