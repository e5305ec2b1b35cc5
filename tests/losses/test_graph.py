"""Graph objectives against sums over pairs in float64, and the spectrum they are minimised by."""

import math

import pytest
import torch

from pyfast_mmcl.losses.clustering import nearest_softmax
from pyfast_mmcl.losses.graph import graph_smoothness, neighbor_affinity, pair_contrast

G = torch.Generator().manual_seed(0)
X = torch.randn(14, 3, generator=G)


def test_affinity_is_its_definition():
    k, d = 4, torch.cdist(X.double(), X.double())
    W = torch.zeros(14, 14, dtype=torch.float64)
    order = (d + 1e9 * torch.eye(14)).argsort(1)
    s = d.gather(1, order)[:, k - 1].median()
    for i in range(14):
        for j in order[i, :k].tolist():
            W[i, j] = math.exp(-(float(d[i, j]) ** 2) / (2 * float(s) ** 2))
    got = neighbor_affinity(X, k)
    torch.testing.assert_close(got.double(), (W + W.T) / 2, rtol=1e-5, atol=1e-6)
    assert torch.equal(got, got.T) and not got.diagonal().any()


def test_affinity_of_few_and_of_equal_rows():
    assert neighbor_affinity(X[:1], 3).shape == (1, 1)
    assert torch.isfinite(neighbor_affinity(torch.ones(5, 2), 3)).all()
    assert neighbor_affinity(X[:3], 10).count_nonzero() == 6


def test_smoothness_is_the_sum_over_pairs():
    W = neighbor_affinity(X, 4).double()
    y = torch.randn(14, 2, generator=G, dtype=torch.float64)
    pairs = sum(float(W[i, j]) * float((y[i] - y[j]).square().sum()) for i in range(14) for j in range(14))
    assert float(graph_smoothness(y, W)) == pytest.approx(pairs / 14**2, rel=1e-10)
    assert torch.autograd.gradcheck(lambda z: graph_smoothness(z, W), y.requires_grad_(True))


def test_the_smoothest_orthonormal_functions_are_the_first_eigenvectors():
    W = neighbor_affinity(X, 4).double()
    laplacian = torch.diag(W.sum(1)) - W
    values, vectors = torch.linalg.eigh(laplacian)
    best = vectors[:, :3] * math.sqrt(14)
    assert float(graph_smoothness(best, W)) == pytest.approx(2 * float(values[:3].sum()) / 14, rel=1e-9, abs=1e-12)
    other, _ = torch.linalg.qr(torch.randn(14, 3, generator=G, dtype=torch.float64))
    assert float(graph_smoothness(other * math.sqrt(14), W)) > float(graph_smoothness(best, W))


def test_contrast_is_its_definition():
    a, b = torch.randn(2, 6, 3, generator=G, dtype=torch.float64) * 0.5
    alike = torch.tensor([True, False, True, False, False, True])
    expected = [
        float(d) ** 2 if same else max(0.0, 1 - float(d)) ** 2
        for d, same in zip((a - b).norm(dim=1), alike, strict=True)
    ]
    assert float(pair_contrast(a, b, alike)) == pytest.approx(sum(expected) / 6)
    same = a.clone().requires_grad_(True)
    pair_contrast(same, same.detach(), ~alike).backward()
    assert torch.isfinite(same.grad).all()


def test_nearest_softmax_ranks_by_distance():
    z, c = torch.randn(9, 2, generator=G, dtype=torch.float64), torch.randn(4, 2, generator=G, dtype=torch.float64)
    expected = (-torch.cdist(z, c).square()).softmax(1)
    torch.testing.assert_close(nearest_softmax(z, c), expected)


def test_a_centre_that_repeats_an_earlier_one_gets_nothing():
    z = torch.tensor([[1.0, 2.0]]).repeat(9, 1)
    c = torch.tensor([[4.0, 0.0], [1.0, 2.0], [1.0, 2.0], [1.0 + 1e-7, 2.0], [1.0, 2.5]])
    soft = nearest_softmax(z, c)
    assert soft.argmax(1).tolist() == [1] * 9
    assert (soft[:, 2:4] == 0).all() and (soft[:, [0, 1, 4]] > 0).all()
    torch.testing.assert_close(soft[:, [0, 1, 4]], nearest_softmax(z, c[[0, 1, 4]]))
    assert nearest_softmax(z, torch.zeros(3, 2)).argmax(1).tolist() == [0] * 9
