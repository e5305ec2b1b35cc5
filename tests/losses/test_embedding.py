"""Locality and group sparsity against their formulas, written out in float64 row by row."""

import math

import pytest
import torch

from pyfast_mmcl.losses.embedding import group_sparsity, heat_kernel, locality, weighted_triplet


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_heat_kernel_is_its_formula_and_one_where_all_rows_are_equal():
    square = draw(7, 3).square()
    flat = square.flatten().tolist()
    mean = sum(flat) / len(flat)
    expected = torch.tensor([math.exp(-value / mean) for value in flat], dtype=torch.float64)
    torch.testing.assert_close(heat_kernel(square).flatten(), expected)
    assert torch.equal(heat_kernel(torch.zeros(4, 2)), torch.ones(4, 2))


def test_locality_is_its_formula():
    z, near, weight = draw(17, 5), draw(17, 5, seed=1), draw(17, seed=2).abs()
    rows = [
        w * sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
        for w, x, y in zip(weight.tolist(), z.tolist(), near.tolist(), strict=True)
    ]
    assert float(locality(z, near, weight)) == pytest.approx(sum(rows) / len(rows), rel=1e-12)


@pytest.mark.parametrize(("groups", "width"), [(1, 6), (3, 2), (6, 1)])
def test_group_sparsity_is_its_formula(groups, width):
    z = draw(15, 6)
    rows = [
        sum(math.sqrt(width * sum(v**2 for v in row[g * width : (g + 1) * width])) for g in range(groups))
        for row in z.tolist()
    ]
    assert float(group_sparsity(z, groups)) == pytest.approx(sum(rows) / len(rows), rel=1e-12)


def test_gradients():
    z, near, weight = draw(5, 6).requires_grad_(True), draw(5, 6, seed=1).requires_grad_(True), draw(5, seed=2).abs()
    assert torch.autograd.gradcheck(lambda a, b: locality(a, b, weight), (z, near))
    assert torch.autograd.gradcheck(lambda a: group_sparsity(a, 3), (z,))
    zero = torch.zeros(4, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(group_sparsity(zero, 3), zero)
    assert torch.equal(gradient, torch.zeros(4, 6))


def test_weighted_triplet_is_its_formula():
    z, alike, other = draw(17, 5), draw(17, 5, seed=1), draw(17, 5, seed=2)

    def square(x, y):
        return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))

    rows = [
        max(0.0, 1.5 * square(x, y) - square(x, w) + 0.3)
        for x, y, w in zip(z.tolist(), alike.tolist(), other.tolist(), strict=True)
    ]
    assert 0 < sum(value == 0 for value in rows) < 17
    assert float(weighted_triplet(z, alike, other, gamma=1.5, margin=0.3)) == pytest.approx(sum(rows) / 17, rel=1e-12)
    triplet = tuple(x.requires_grad_(True) for x in (z, alike, other))
    assert torch.autograd.gradcheck(weighted_triplet, triplet)
