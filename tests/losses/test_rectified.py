"""Rectified similarities against their definition row by row, in float64 and in float32."""

import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses import RectifiedSimilarity, rectified
from pyfast_mmcl.ops.contrastive import info_nce
from tests.check import assert_no_worse, raises_sentence


def sides(n=33, d=7, dtype=torch.float64, seed=0):
    """Student and teacher pairs of which some are right and some are wrong."""
    g = torch.Generator().manual_seed(seed)
    a, b, old_a, old_b = (torch.randn(n, d, generator=g, dtype=torch.float64) for _ in range(4))
    pairs = (a, a + b, old_a, old_a + 0.8 * old_b)
    return [F.normalize(x, dim=1).to(dtype) for x in pairs]


def by_definition(a, b, old_a, old_b, scale, old_scale):
    """L [N] and how many rows were the teacher's, the student's own and one-hot."""
    losses, counts = [], [0, 0, 0]
    for x, y, old_x, old_y in ((a, b, old_a, old_b), (b, a, old_b, old_a)):
        rows = []
        for i in range(len(x)):
            q, p = (scale * x[i] @ y.T).log_softmax(0), (old_scale * old_x[i] @ old_y.T).log_softmax(0)
            if int(p.argmax()) == i:
                counts[0] += 1
                rows.append((p.exp() * (p - q)).sum())
            elif int(q.argmax()) == i:
                counts[1] += 1
                rows.append(0 * q.sum())
            else:
                counts[2] += 1
                rows.append(-q[i])
        losses.append(torch.stack(rows))
    return (losses[0] + losses[1]) / 2, counts


@pytest.mark.parametrize("tile", [5, 1024])
@pytest.mark.parametrize("n", [1, 16, 33])
def test_rows_are_the_teachers_the_students_or_the_label(n, tile, monkeypatch):
    monkeypatch.setattr(rectified, "_TILE", tile)
    a, b, old_a, old_b = sides(n)
    leaves = [a.requires_grad_(), b.requires_grad_(), torch.tensor(3.0, dtype=torch.float64).requires_grad_()]
    truth, counts = by_definition(a, b, old_a, old_b, leaves[2], 4.0)
    assert n < 33 or min(counts) > 3
    for reduction, reduced in (("none", truth), ("mean", truth.mean()), ("sum", truth.sum())):
        loss = RectifiedSimilarity(reduction=reduction)(a, b, old_a, old_b, student_scale=leaves[2], teacher_scale=4.0)
        torch.testing.assert_close(loss, reduced, rtol=1e-10, atol=1e-12)
        ours, expected = (torch.autograd.grad(x.sum(), leaves, retain_graph=True) for x in (loss, reduced))
        for x, y in zip(ours, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-11)


def test_float32_is_no_worse_than_the_plain_formula():
    exact, low = sides(65, 9), sides(65, 9, torch.float32)
    truth, _ = by_definition(*exact, 20.0, 15.0)
    plain, _ = by_definition(*low, 20.0, 15.0)
    ours = RectifiedSimilarity(reduction="none")(*low, student_scale=20.0, teacher_scale=15.0)
    assert_no_worse(ours, plain, truth, atol=1e-5)


def test_a_student_that_is_a_teacher_always_right_pays_nothing():
    a, b = torch.eye(6).requires_grad_(), torch.eye(6)
    loss = RectifiedSimilarity()(a, b, a.detach(), b, student_scale=5.0, teacher_scale=5.0)
    assert abs(float(loss.detach())) < 1e-6 and float(torch.autograd.grad(loss, a)[0].abs().max()) < 1e-6


def test_where_both_are_always_wrong_it_is_info_nce():
    a, shifted = sides(12)[0].requires_grad_(), torch.eye(12, dtype=torch.float64).roll(1, 0)
    b = a.detach().roll(1, 0)  # every row is most similar to another one
    loss = RectifiedSimilarity()(a, b, torch.eye(12, dtype=torch.float64), shifted, student_scale=2.0)
    truth = info_nce(a, b, 2.0)
    torch.testing.assert_close(loss, truth)
    torch.testing.assert_close(torch.autograd.grad(loss, a)[0], torch.autograd.grad(truth, a)[0])


def test_pairs_of_one_caption_count_as_right_and_no_rows_cost_nothing():
    a, b = sides(10)[:2]
    a, b = torch.cat([a, a]).float(), torch.cat([a, a]).float()
    assert rectified.ranks_own_first(a, b).all()
    empty = torch.zeros(0, 4)
    assert float(RectifiedSimilarity()(empty, empty, empty, empty)) == 0
    with raises_sentence(InputError, "rows", "[20, 7]", "[0, 4]"):
        RectifiedSimilarity()(a, b, empty, empty)
