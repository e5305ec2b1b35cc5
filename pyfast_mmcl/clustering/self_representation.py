"""Rows as sparse combinations of other rows, and spectral clustering of the graph these make."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import eigsh
from torch import Tensor
from torch.nn.functional import normalize

_GRAM_BYTES = 2**26  # of the Gram matrices of one block of rows
_DENSE = 500  # rows up to which all eigenvectors are worked out at once


def sparse_codes(x: Tensor, candidates: Tensor, *, lam: float, sweeps: int = 100, tol: float = 1e-4) -> Tensor:
    """Coefficients c [N, m] of rows over their candidates: ``argmin ½ ‖x_i − Σ_j c_ij x_cand(i, j)‖² + lam · ‖c_i‖₁``.

    x [N, D], candidates int64 [N, m] without the row itself; a candidate listed twice counts once. Coordinate descent
    on the Gram matrices of the candidates, all rows of a block at once, until no coefficient moves by more than
    ``tol`` or ``sweeps`` are done; in float64 for float64 rows, else float32.

    Reference: Elhamifar and Vidal, *Sparse subspace clustering*, TPAMI 2013, equation 5; Friedman et al., *Pathwise
    coordinate optimization*, Annals of Applied Statistics 2007.
    """
    N, m = candidates.shape
    first = _first_mentions(candidates)
    step = max(1, _GRAM_BYTES // max(1, m * max(m, x.shape[1]) * x.element_size()))
    blocks = [slice(start, start + step) for start in range(0, N, step)]
    return torch.cat(
        [_descend(x[part], x[candidates[part]] * first[part, :, None], lam, sweeps, tol) for part in blocks]
    )


def _descend(x: Tensor, others: Tensor, lam: float, sweeps: int, tol: float) -> Tensor:
    """Coefficients [b, m] of x [b, D] over others [b, m, D]."""
    gram = others @ others.mT
    square = gram.diagonal(dim1=1, dim2=2)
    curvature = torch.where(square > 0, square, torch.ones_like(square))  # a zero row gets no coefficient
    residual = (others @ x[:, :, None]).squeeze(2)  # of the normal equations, of which soft thresholding wants rest
    c = torch.zeros_like(residual)
    for _ in range(sweeps):
        largest = 0.0
        for j in range(c.shape[1]):
            rest = residual[:, j] + square[:, j] * c[:, j]
            new = rest.sign() * (rest.abs() - lam).clamp_min(0) / curvature[:, j]
            change = new - c[:, j]
            residual -= gram[:, j] * change[:, None]
            c[:, j] = new
            largest = max(largest, float(change.abs().max()))
        if largest <= tol:
            break
    return c


def _first_mentions(candidates: Tensor) -> Tensor:
    """bool [N, m]: whether a candidate was not listed before in its row."""
    ranked, order = candidates.sort(dim=1, stable=True)
    fresh = torch.ones_like(ranked, dtype=torch.bool)
    fresh[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    return torch.zeros_like(fresh).scatter_(1, order, fresh)


def representation_graph(candidates: Tensor, coefficients: Tensor) -> csr_array:
    """``|C| + |C|.T`` [N, N] in float64 for coefficients [N, m] over candidates int64 [N, m]."""
    N, m = candidates.shape
    values = coefficients.abs().double().cpu().numpy().ravel()
    C = csr_array((values, candidates.cpu().numpy().ravel(), np.arange(N + 1) * m), shape=(N, N))
    W = csr_array(C + C.T)
    W.eliminate_zeros()
    return W


def spectral_rows(W: csr_array, K: int) -> Tensor:
    """Unit rows [N, K] of the K first eigenvectors of ``D^-½ W D^-½``, whose clusters are those of the graph.

    W [N, N] symmetric, at least 0; rows without edges are zero. float64, the same in every run.

    Reference: Ng, Jordan, Weiss, *On spectral clustering*, NIPS 2001.
    """
    N = W.shape[0]
    degree = W.sum(axis=1)
    scale = diags_array(np.divide(1, np.sqrt(degree), out=np.zeros(N), where=degree > 0))
    normal = scale @ W @ scale
    if N <= max(_DENSE, 2 * K + 2):
        vectors = np.linalg.eigh(normal.toarray())[1][:, -K:]
    else:
        start = np.random.default_rng(0).normal(size=N)
        vectors = eigsh(normal, K, which="LA", v0=start, ncv=min(N, max(4 * K, 40)))[1]
    vectors = np.where(degree[:, None] > 0, vectors, 0)
    return normalize(torch.from_numpy(vectors), dim=1)
