"""Entropies, divergences and the virtual adversarial direction against their definitions in float64."""

import math

import pytest
import torch
from torch import nn

from pyfast_mmcl.losses.information import assignment_divergence, conditional_entropy, entropy, marginal_entropy
from pyfast_mmcl.losses.virtual_adversarial import virtual_adversarial
from pyfast_mmcl.models.statistics import statistics_kept

P = torch.softmax(torch.randn(13, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2, 1)
Q = torch.softmax(torch.randn(13, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2, 1)


def H(p):
    return -sum(a * math.log(a) for a in p if a > 0)


def test_entropies_are_their_definitions():
    torch.testing.assert_close(entropy(P), torch.tensor([H(row) for row in P.tolist()], dtype=torch.float64))
    assert float(conditional_entropy(P)) == pytest.approx(sum(H(row) for row in P.tolist()) / 13)
    assert float(marginal_entropy(P)) == pytest.approx(H(P.mean(0).tolist()))


def test_certain_assignments_have_no_entropy_and_finite_gradients():
    hard = torch.eye(4).requires_grad_(True)
    assert conditional_entropy(hard).item() == 0 and marginal_entropy(hard).item() == pytest.approx(math.log(4))
    (conditional_entropy(hard) + marginal_entropy(hard)).backward()
    assert torch.isfinite(hard.grad).all()


def test_divergence_is_its_definition():
    expected = sum(
        sum(a * math.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(P.tolist(), Q.tolist(), strict=True)
    )
    assert float(assignment_divergence(P.log(), Q.log())) == pytest.approx(expected / 13)


def test_the_adversarial_direction_is_the_one_of_steepest_divergence():
    """For small moves KL is ½ dᵀFd: one power iteration from every start goes towards the top eigenvector of F."""
    torch.manual_seed(0)
    weight = torch.randn(4, 6, dtype=torch.float64)
    x, radius = torch.randn(5, 6, dtype=torch.float64), torch.rand(5, dtype=torch.float64) + 0.1

    def model(rows):
        return (rows @ weight.T).log_softmax(1)

    r = virtual_adversarial(model, x, model(x), radius, xi=1e-3, iterations=50)
    torch.testing.assert_close(r.norm(dim=1), radius)
    for row, p in zip(r, model(x).exp(), strict=True):
        fisher = weight.T @ (torch.diag(p) - torch.outer(p, p)) @ weight
        top = torch.linalg.eigh(fisher).eigenvectors[:, -1]
        assert abs(float(row @ top)) == pytest.approx(float(row.norm()), rel=1e-3)


def test_a_flat_model_gives_a_finite_direction_of_the_radius():
    x = torch.randn(3, 4)
    r = virtual_adversarial(lambda rows: torch.zeros(3, 2).log_softmax(1) + 0 * rows.sum(), x, torch.zeros(3, 2),
                            torch.ones(3))  # fmt: skip
    torch.testing.assert_close(r.norm(dim=1), torch.ones(3))


def test_batch_statistics_are_kept():
    layer = nn.BatchNorm1d(3)
    x = torch.randn(8, 3) + 5
    expected = nn.BatchNorm1d(3)(x)
    with statistics_kept(nn.Sequential(layer)):
        torch.testing.assert_close(layer(x), expected)
    assert float(layer.running_mean.abs().max()) == 0 and int(layer.num_batches_tracked) == 0
    layer(x)
    assert float(layer.running_mean.abs().max()) > 0
