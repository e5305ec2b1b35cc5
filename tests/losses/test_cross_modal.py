"""Texts beside images: every formula written out in float64, and its gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from pyfast_mmcl.losses.cross_modal import counterparts, mutual_distillation
from tests.check import assert_no_worse


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft(seed, B=6, K=3):
    return drawn(seed, B, K).softmax(1)


def test_counterparts_are_their_formula():
    v, texts = F.normalize(drawn(0, 5, 4), dim=1), F.normalize(drawn(1, 7, 4), dim=1)
    for image, found in zip(v, counterparts(v, texts, 0.1), strict=True):
        weights = [math.exp(float(image @ text) / 0.1) for text in texts]
        mean = sum(w * text for w, text in zip(weights, texts, strict=True)) / sum(weights)
        torch.testing.assert_close(found, mean / mean.norm())


def test_the_nearest_text_is_the_counterpart_when_it_is_cold():
    v, texts = F.normalize(drawn(0, 50, 4), dim=1), F.normalize(drawn(1, 9, 4), dim=1)
    torch.testing.assert_close(counterparts(v, texts, 1e-6), texts[(v @ texts.T).argmax(1)], rtol=1e-3, atol=1e-3)
    single = counterparts(v.float(), texts[:1].float())
    torch.testing.assert_close(single, texts[:1].float().expand(50, -1))


@pytest.mark.parametrize("temperature", [0.005, 0.5])
def test_counterparts_in_float32_stay_near_the_truth(temperature):
    v, texts = (F.normalize(drawn(seed, n, 33).float(), dim=1) for seed, n in ((0, 17), (1, 65)))
    truth = counterparts(v.double(), texts.double(), temperature)
    plain = F.normalize(F.softmax(v @ texts.T / temperature, dim=1) @ texts, dim=1)
    assert_no_worse(counterparts(v, texts, temperature), plain, truth, atol=1e-6)


def contrast_of(p, q, temperature):
    """The 2K columns one by one: each against its partner and all that is neither itself nor its partner."""
    columns = [F.normalize(column, dim=0) for column in (*p.T, *q.T)]
    K, total = p.shape[1], 0.0
    for i, column in enumerate(columns):
        scores = [float(column @ other) / temperature for other in columns]
        partner = scores[(i + K) % (2 * K)]
        rest = [score for j, score in enumerate(scores) if j != i]
        total += math.log(sum(map(math.exp, rest))) - partner
    return total / (2 * K)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_distillation_is_its_formula(K):
    p, q, p_near, q_near = (soft(seed, 9, K) for seed in range(4))
    terms = mutual_distillation(p.log(), q.log(), p_near.log(), q_near.log(), temperature=0.7, balance=3.0)
    entropies = [-sum(float(x) * math.log(float(x)) for x in mean) for mean in (p.mean(0), q.mean(0))]
    expected = {
        "distillation": contrast_of(p, q_near, 0.7) + contrast_of(q, p_near, 0.7),
        "agreement": -sum(math.log(float(a @ b)) for a, b in zip(p, q, strict=True)) / len(p),
        "balance": -3 * sum(entropies),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, abs=1e-6), name


def test_counterparts_have_the_right_gradients():
    v, texts = (F.normalize(drawn(seed, n, 3), dim=1).requires_grad_(True) for seed, n in ((0, 4), (1, 5)))
    assert gradcheck(lambda a, b: counterparts(a, b, 0.3), (v, texts))


def test_gradient_of_the_distillation_is_that_of_its_formula():
    """Against plain torch in float64: the 2K×2K matrix with its diagonal left out."""
    inputs = [soft(seed) for seed in range(4)]

    def plain(p, q):
        z = F.normalize(torch.cat([p.T, q.T]), dim=1)
        scores = (z @ z.T / 0.5).fill_diagonal_(-math.inf)
        return F.cross_entropy(scores, torch.arange(len(z)).roll(len(z) // 2))

    def ours(*assignments):
        return sum(mutual_distillation(*(x.log() for x in assignments), balance=2.0).values())

    def truth(p, q, p_near, q_near):
        means = torch.stack([p.mean(0), q.mean(0)])
        balance = 2 * (means * means.log()).sum()
        return plain(p, q_near) + plain(q, p_near) - (p * q).sum(1).log().mean() + balance

    found, expected = (
        torch.autograd.grad(f(*leaves), leaves)
        for f in (ours, truth)
        for leaves in [[x.clone().requires_grad_(True) for x in inputs]]
    )
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-6)
