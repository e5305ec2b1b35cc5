"""Invariance of assignments against the formulas, written out in float64 cell by cell, and their gradients."""

import math

import pytest
import torch

from pyfast_mmcl.losses.invariance import column_contrast, imbalance, joint_assignment, joint_information


def assignments(B: int, K: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed), dtype=dtype).mul(2).softmax(1)


P, Q = assignments(17, 4, 0), assignments(17, 4, 1)


def test_joint_assignment_is_its_formula():
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for p, q in zip(P, Q, strict=True):
        for k in range(4):
            for m in range(4):
                expected[k, m] += (p[k] * q[m] + q[k] * p[m]) / (2 * 17)
    torch.testing.assert_close(joint_assignment(P, Q), expected)
    heads = joint_assignment(torch.stack([P, Q], 1), torch.stack([Q, Q], 1))
    torch.testing.assert_close(heads[0], expected)
    torch.testing.assert_close(heads[1], Q.T @ Q / 17)


@pytest.mark.parametrize("lam", [1.0, 1.5])
def test_information_is_its_formula(lam):
    joint = joint_assignment(P, Q)
    total = 0.0
    for k in range(4):
        for m in range(4):
            row, column = float(joint[k].sum()), float(joint[:, m].sum())
            total += float(joint[k, m]) * (math.log(joint[k, m]) - lam * math.log(row) - lam * math.log(column))
    assert float(joint_information(joint, lam)) == pytest.approx(total, rel=1e-12)


def test_information_of_certain_and_of_independent_labels():
    certain = torch.eye(4, dtype=torch.float64).repeat(3, 1)
    assert float(joint_information(joint_assignment(certain, certain))) == pytest.approx(math.log(4))
    same = torch.full((9, 4), 0.25, dtype=torch.float64)
    assert float(joint_information(joint_assignment(same, same))) == pytest.approx(0, abs=1e-12)
    one = torch.ones(5, 1)
    assert float(joint_information(joint_assignment(one, one))) == 0
    half = certain.float().requires_grad_(True)
    joint_information(joint_assignment(half, half)).backward()
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_column_contrast_is_its_formula(temperature):
    columns = torch.cat([P, Q], 1).T
    cosine = [[float(a @ b / (a.norm() * b.norm())) / temperature for b in columns] for a in columns]
    losses = []
    for i, row in enumerate(cosine):
        others = [math.exp(value) for j, value in enumerate(row) if j != i]
        losses.append(-math.log(math.exp(row[(i + 4) % 8]) / sum(others)))
    assert float(column_contrast(P, Q, temperature)) == pytest.approx(sum(losses) / 8, rel=1e-5)


@pytest.mark.parametrize("K", [1, 3, 40])
def test_column_contrast_bears_dead_clusters_and_more_clusters_than_rows(K):
    p, q = (assignments(5, K, seed, torch.float32) for seed in (0, 1))
    p = torch.cat([p, torch.zeros(5, 1)], 1).requires_grad_(True)
    loss = column_contrast(p, torch.cat([q, torch.zeros(5, 1)], 1))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(p.grad).all()


def test_imbalance_is_its_formula():
    mean = P.mean(0).tolist()
    assert float(imbalance(P)) == pytest.approx(math.log(4) + sum(m * math.log(m) for m in mean), rel=1e-12)
    assert float(imbalance(torch.eye(4, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)
    dead = torch.tensor([[1.0, 0.0]] * 3, requires_grad=True)
    imbalance(dead).backward()
    assert float(imbalance(dead)) == pytest.approx(math.log(2)) and torch.isfinite(dead.grad).all()


@pytest.mark.parametrize(
    "loss",
    [lambda p, q: joint_information(joint_assignment(p, q)), lambda p, q: imbalance(p) + imbalance(q)],
    ids=["information", "imbalance"],
)
def test_gradients(loss):
    p, q = P[:5].clone().requires_grad_(True), Q[:5].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(loss, (p, q))


def test_gradient_of_column_contrast():
    p, q = P.clone().requires_grad_(True), Q.clone().requires_grad_(True)
    column_contrast(p, q, 0.5).backward()
    step = 1e-2
    for i, k in ((0, 0), (3, 2), (16, 3)):
        moved = torch.zeros_like(P)
        moved[i, k] = step
        with torch.no_grad():
            change = (column_contrast(P + moved, Q, 0.5) - column_contrast(P - moved, Q, 0.5)) / (2 * step)
        assert float(p.grad[i, k]) == pytest.approx(float(change), abs=2e-4)
