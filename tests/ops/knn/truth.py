"""float64 scores and adversarial sets shared by the kNN tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyfast_mmcl.ops.knn.reference import score_block

METRICS = ("l2", "ip", "cosine")


def scores(q: Tensor, x: Tensor, metric: str) -> Tensor:
    """Squared distances (l2) or similarities, float64 [N, M]."""
    key = score_block(q.double(), x.double(), metric)
    return key if metric == "l2" else -key


def assert_exact(distances: Tensor, indices: Tensor, q: Tensor, x: Tensor, k: int, metric: str) -> None:
    """The three conditions of exactness: right order, right distances, right padding."""
    truth = scores(q, x, metric)
    n, m, kept = q.shape[0], x.shape[0], min(k, x.shape[0])
    assert indices.shape == distances.shape == (n, k)
    assert (indices[:, kept:] == -1).all()
    assert (distances[:, kept:] == (torch.inf if metric == "l2" else -torch.inf)).all()
    if n == 0 or m == 0:
        return
    ours, found = indices[:, :kept], truth.gather(1, indices[:, :kept])
    assert all(row.unique().numel() == kept for row in ours), "a neighbour is listed twice"
    size = float(truth[truth.isfinite()].abs().max())
    torch.testing.assert_close(distances[:, :kept], found.float(), rtol=3e-7, atol=size * 2**-50)
    expected = truth.sort(dim=1, descending=metric != "l2", stable=True).indices[:, :kept]
    gap = (found - truth.gather(1, expected)).abs()
    # float64 sums of D terms in another order differ by this much; anything wider is a wrong neighbour …
    assert (gap <= size * x.shape[1] * 2**-52).all(), f"a wrong neighbour, {float(gap.max()):.3e} too far"
    # … and equal rows are a tie in any order of summation: the smaller index comes first
    equal_rows = (x[ours] == x[expected]).all(dim=2)
    assert (ours == expected)[equal_rows].all(), "of two equal rows the larger index came first"


def near_duplicates(m: int, d: int) -> Tensor:
    base = torch.randn(1, d)
    return base + 1e-7 * torch.randn(m, d)


SETS: dict[str, Callable[[int, int], Tensor]] = {
    "gaussian": lambda m, d: torch.randn(m, d),
    "duplicates": lambda m, d: torch.randn(max(1, m // 7), d).repeat(8, 1)[:m],
    "near_duplicates": near_duplicates,
    "offset": lambda m, d: torch.randn(m, d) + 1e4,
    "all_equal": lambda m, d: torch.full((m, d), 0.3),
    "zeros": lambda m, d: torch.zeros(m, d),
    "huge_norms": lambda m, d: torch.randn(m, d) * 1e18,
    "tiny_norms": lambda m, d: torch.randn(m, d) * 1e-30,
    "denormals": lambda m, d: torch.randn(m, d) * 1e-41,
    "mixed_norms": lambda m, d: torch.randn(m, d) * torch.logspace(-20, 18, m)[:, None],
    "some_zero_rows": lambda m, d: torch.randn(m, d) * (torch.arange(m) % 3 > 0)[:, None],
    "sparse": lambda m, d: torch.randn(m, d) * (torch.rand(m, d) < 0.05),
    "clusters": lambda m, d: torch.randn(5, d).repeat_interleave(m // 5 + 1, 0)[:m] + 0.01 * torch.randn(m, d),
}
