"""Objectives of neighbours against their formulas in float64."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from pyfast_mmcl.losses.neighborhood import confident_cross_entropy, neighbor_consistency

G = torch.Generator().manual_seed(0)


def assignments(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=G, dtype=torch.float64).log_softmax(-1)


def test_consistency_is_its_formula():
    p, q = assignments(7, 4), assignments(7, 4)
    expected = -sum(math.log(float((p[i].exp() * q[i].exp()).sum())) for i in range(7)) / 7
    assert float(neighbor_consistency(p, q)) == pytest.approx(expected, rel=1e-12)
    assert float(neighbor_consistency(p.float(), q.float())) == pytest.approx(expected, rel=1e-5)
    p, q = p.requires_grad_(True), q.requires_grad_(True)
    assert torch.autograd.gradcheck(neighbor_consistency, (p, q))


def test_consistency_of_heads_is_that_of_each():
    p, q = assignments(7, 3, 4), assignments(7, 3, 4)
    together = neighbor_consistency(p, q)
    assert together.shape == (3,)
    for h in range(3):
        torch.testing.assert_close(together[h], neighbor_consistency(p[:, h], q[:, h]))


def test_consistency_is_zero_for_sure_agreement_and_finite_for_sure_disagreement():
    sure = torch.tensor([[200.0, 0.0], [0.0, 200.0]]).log_softmax(1).requires_grad_(True)
    assert float(neighbor_consistency(sure, sure)) == 0
    apart = neighbor_consistency(sure, sure.flip(1))
    apart.backward()
    assert float(apart) > 100 and torch.isfinite(sure.grad).all()


def test_confident_rows_teach_and_clusters_weigh_the_same():
    scores = torch.randn(6, 3, generator=G, dtype=torch.float64)
    p = torch.tensor([[.95, .03, .02], [.91, .05, .04], [.1, .1, .8], [.02, .96, .02], [.5, .3, .2],
                      [.92, .04, .04]], dtype=torch.float64)  # fmt: skip
    first = [float(cross_entropy(scores[i : i + 1], torch.tensor([0]))) for i in (0, 1, 5)]
    second = float(cross_entropy(scores[3:4], torch.tensor([1])))
    expected = (sum(first) / 3 + second) / 2
    assert float(confident_cross_entropy(scores, p, 0.9)) == pytest.approx(expected, rel=1e-12)
    rows = scores.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda s: confident_cross_entropy(s, p, 0.9), rows)
    confident_cross_entropy(rows, p, 0.9).backward()
    assert not rows.grad[[2, 4]].any()


def test_nobody_is_confident():
    scores = torch.randn(5, 3, generator=G).requires_grad_(True)
    loss = confident_cross_entropy(scores, torch.full((5, 3), 1 / 3), 0.5)
    loss.backward()
    assert float(loss.detach()) == 0 and not scores.grad.any()
