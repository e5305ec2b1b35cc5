"""Objectives of deep clustering against their formulas, written out in float64 row by row."""

import math

import pytest
import torch

from pyfast_mmcl.losses.clustering import assignment_kl, student_t, target_distribution

Z = torch.randn(17, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
C = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def q_of(z, c):
    kernel = [[1 / (1 + sum((a - b) ** 2 for a, b in zip(row, center, strict=True))) for center in c] for row in z]
    return [[k / sum(row) for k in row] for row in kernel]


def test_student_t_is_its_formula():
    torch.testing.assert_close(student_t(Z, C), torch.tensor(q_of(Z.tolist(), C.tolist()), dtype=torch.float64))


def test_targets_are_their_formula():
    q = student_t(Z, C)
    f = q.sum(0).tolist()
    weight = [[value**2 / f[j] for j, value in enumerate(row)] for row in q.tolist()]
    expected = [[w / sum(row) for w in row] for row in weight]
    torch.testing.assert_close(target_distribution(q), torch.tensor(expected, dtype=torch.float64))


def test_kl_is_its_formula_and_zero_for_equal_assignments():
    q = student_t(Z, C)
    p = target_distribution(q)
    rows = [
        sum(a * math.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(p.tolist(), q.tolist(), strict=True)
    ]
    assert float(assignment_kl(p, q)) == pytest.approx(sum(rows) / len(rows), rel=1e-12)
    assert float(assignment_kl(q, q)) == pytest.approx(0, abs=1e-15)
    hard = torch.eye(4, dtype=torch.float64)
    assert torch.isfinite(assignment_kl(hard, hard.roll(1, 0)))


def test_gradient_of_centers_is_equation_5():
    """∂L/∂c[j] = −2 Σ_i (1 + ‖z_i − c_j‖²)⁻¹ (p_ij − q_ij)(z_i − c_j): Xie et al., ICML 2016, with one degree."""
    centers = C.clone().requires_grad_(True)
    q = student_t(Z, centers)
    p = target_distribution(q.detach())
    (assignment_kl(p, q) * len(Z)).backward()
    difference = Z[:, None] - C
    kernel = 1 / (1 + difference.square().sum(2))
    expected = -2 * ((kernel * (p - q.detach()))[:, :, None] * difference).sum(0)
    torch.testing.assert_close(centers.grad, expected)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_float32_stays_near_the_truth(scale):
    close = student_t((Z * scale).float(), (C * scale).float()).double()
    torch.testing.assert_close(close, student_t(Z * scale, C * scale), rtol=1e-3, atol=1e-6)
    assert torch.isfinite(close).all()
