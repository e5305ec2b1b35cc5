"""Sparse combinations against scikit-learn's lasso, and spectral rows against their definition."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.linear_model import Lasso

from pyfast_mmcl.clustering import self_representation
from pyfast_mmcl.clustering.self_representation import representation_graph, sparse_codes, spectral_rows


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_others(N: int) -> torch.Tensor:
    return torch.stack([torch.cat([torch.arange(i), torch.arange(i + 1, N)]) for i in range(N)])


def objective(x, others, c, lam) -> float:
    return float((x - c @ others).square().sum() / 2 + lam * c.abs().sum())


@pytest.mark.parametrize("lam", [0.05, 1.0])
def test_coefficients_are_those_of_the_lasso(lam):
    x, candidates = draw(9, 15), all_others(9)
    ours = sparse_codes(x, candidates, lam=lam, sweeps=500, tol=1e-10)
    for i in range(9):
        others = x[candidates[i]]
        lasso = Lasso(alpha=lam / 15, fit_intercept=False, tol=1e-12, max_iter=100_000)
        theirs = torch.from_numpy(lasso.fit(others.T.numpy(), x[i].numpy()).coef_)
        assert objective(x[i], others, ours[i], lam) <= objective(x[i], others, theirs, lam) + 1e-9
        torch.testing.assert_close(ours[i] @ others, theirs @ others, rtol=1e-4, atol=1e-5)
    assert bool((ours == 0).any())


def test_blocks_and_single_precision_do_not_matter(monkeypatch):
    x, candidates = draw(33, 15), all_others(33)[:, :5]
    how = {"lam": 0.1, "tol": 1e-9, "sweeps": 200}
    whole = sparse_codes(x, candidates, **how)
    monkeypatch.setattr(self_representation, "_GRAM_BYTES", 15 * 5 * 8 * 10)
    torch.testing.assert_close(sparse_codes(x, candidates, **how), whole)
    near = sparse_codes(x.float(), candidates, lam=0.1, sweeps=50)
    torch.testing.assert_close(near.double(), whole, rtol=1e-3, atol=1e-3)


def test_rows_listed_twice_and_zero_rows():
    x = draw(5, 4)
    x[3] = 0
    twice = sparse_codes(x, torch.tensor([[1, 2, 1, 3]] * 5), lam=0.1, sweeps=100, tol=1e-12)
    once = sparse_codes(x, torch.tensor([[1, 2]] * 5), lam=0.1, sweeps=100, tol=1e-12)
    torch.testing.assert_close(twice[:, :2], once)
    assert not twice[:, 2:].any()
    assert not twice[3].any()


def test_graph_is_symmetric_and_its_formula():
    candidates, c = torch.tensor([[1, 2], [0, 2], [1, 0]]), torch.tensor([[0.5, 0.0], [-1.0, 0.25], [0.0, 2.0]])
    expected = [[0, 1.5, 2], [1.5, 0, 0.25], [2, 0.25, 0]]
    np.testing.assert_array_equal(representation_graph(candidates, c).toarray(), expected)


def test_spectral_rows_are_eigenvectors_by_either_way(monkeypatch):
    W = np.abs(draw(60, 60).numpy()) * (draw(60, 60, seed=1).numpy() > 0.8)
    W = W + W.T
    W[5], W[:, 5] = 0, 0  # a row without edges
    dense = spectral_rows(csr_array(W), 3)
    degree = W.sum(1)
    scale = np.divide(1, np.sqrt(degree), out=np.zeros(60), where=degree > 0)
    vectors = np.linalg.eigh(scale[:, None] * W * scale)[1][:, -3:]
    expected = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    expected[5] = 0
    # Signs of eigenvectors are free; products of rows are not.
    np.testing.assert_allclose(dense @ dense.T, expected @ expected.T, atol=1e-8)
    monkeypatch.setattr(self_representation, "_DENSE", 0)
    sparse = spectral_rows(csr_array(W), 3)
    np.testing.assert_allclose(sparse @ sparse.T, dense @ dense.T, atol=1e-6)
    assert torch.equal(sparse, spectral_rows(csr_array(W), 3))
