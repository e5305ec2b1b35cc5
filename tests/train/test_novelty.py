"""Autoencoders against a singular value decomposition, and their limits against what they promise."""

import math

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.calibration import conformal_limit
from pyfast_mmcl.train.novelty import LinearAutoencoders
from tests.check import assert_same_bits, raises_sentence


def blob(n, seed, shift=0.0, width=20):
    """Rows around a plane of three directions."""
    g = torch.Generator().manual_seed(seed)
    plane = torch.randn(3, width, generator=torch.Generator().manual_seed(100 + int(shift * 10)))
    return torch.randn(n, 3, generator=g) @ plane + 0.1 * torch.randn(n, width, generator=g) + shift


def every_fifth(n):
    return torch.arange(n) % 5 == 0


def fitted():
    known = LinearAutoencoders(code=3)
    for seed, shift in ((1, 0.0), (2, 0.5)):
        known.fit(blob(300, seed, shift), every_fifth(300))
    return known


def test_the_error_is_what_the_best_linear_autoencoder_leaves():
    rows = blob(120, 1).double()
    known = LinearAutoencoders(code=3)
    known.fit(rows, every_fifth(120))
    used = rows[~every_fifth(120)]
    mean = used.mean(0)
    right = torch.linalg.svd(used - mean).Vh[:3]
    new = blob(40, 9).double()
    rest = (new - mean) - (new - mean) @ right.T @ right
    truth = rest.square().mean(1)
    held = rows[every_fifth(120)] - mean
    limit = (held - held @ right.T @ right).square().mean(1).sort().values[math.ceil(25 * 0.95) - 1]
    torch.testing.assert_close(known.errors(new)[:, 0], truth / limit, rtol=1e-8, atol=1e-10)


def test_rows_find_their_task_and_foreign_rows_find_none():
    known = fitted()
    assert (known.task(blob(400, 5)) == 0).float().mean() > 0.9
    assert (known.task(blob(400, 6, 0.5)) == 1).float().mean() > 0.9
    assert (known.task(blob(400, 7, 3.0)) == -1).float().mean() > 0.99


@pytest.mark.parametrize("miss", [0.02, 0.1, 0.3])
def test_about_the_promised_share_of_own_rows_is_missed(miss):
    known = LinearAutoencoders(code=3, miss=miss)
    known.fit(blob(2500, 1), every_fifth(2500))
    missed = float((known.task(blob(4000, 8)) < 0).float().mean())
    # The standard deviation of a limit set by 500 rows is about sqrt(miss / 500).
    assert abs(missed - miss) < 4 * (miss / 500) ** 0.5 + 0.01


def test_a_row_is_judged_alone():
    known = fitted()
    rows = torch.cat([blob(30, 3), blob(30, 4, 0.5), blob(3, 5, 3.0)])
    whole = known.task(rows)
    assert set(whole.tolist()) == {-1, 0, 1}
    assert torch.equal(torch.cat([known.task(row[None]) for row in rows]), whole)
    order = torch.randperm(len(rows))
    assert torch.equal(known.task(rows[order]), whole[order])


def test_what_was_learned_comes_back():
    known, other = fitted(), LinearAutoencoders(code=3)
    other.load_state_dict(known.state_dict())
    assert_same_bits(other.errors(blob(50, 3)), known.errors(blob(50, 3)))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows_do_both_jobs(n):
    known = LinearAutoencoders()
    known.fit(blob(n, 1), torch.zeros(n, dtype=torch.bool))
    assert known.task(blob(n, 1)).eq(0).all() and known.task(blob(50, 2, 3.0)).eq(-1).all()


def test_the_conformal_limit_is_an_order_statistic():
    scores = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0, 6.0, 8.0])
    assert float(conformal_limit(scores, 0.2)) == 8.0 and float(conformal_limit(scores, 0.5)) == 5.0
    assert float(conformal_limit(scores, 0.01)) == 9.0


def test_a_fresh_score_exceeds_the_limit_no_more_often_than_promised():
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(20000, 40, generator=g)
    limits = torch.stack([conformal_limit(row[:-1], 0.1) for row in draws[:4000]])
    share = float((draws[:4000, -1] > limits).float().mean())
    assert 0.06 < share <= 0.1 + 3 * (0.09 / 4000) ** 0.5


def test_a_share_outside_0_and_1_is_refused():
    with raises_sentence(InputError, "miss", "1.5"):
        LinearAutoencoders(miss=1.5)
