"""A batch shared by several processes: what they gather, learn and normalise is that of one."""

from types import SimpleNamespace

import pytest
import torch

from pyfast_mmcl.train.shares import Shares
from tests.processes import pool
from tests.train import shares_jobs as jobs

RANKS = {2: (0, 1), 3: (0, 1, 2)}


def run(job, world, *arguments):
    answers = pool().run(job, RANKS[world], *[arguments] * world)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


@pytest.mark.parametrize(("world", "B", "sizes"), [(2, 8, [4, 4]), (2, 7, [4, 3]), (3, 8, [3, 3, 2])])
def test_rows_come_together_in_the_order_of_the_batch(world, B, sizes):
    answers = run(jobs.gathered, world, B)
    assert [len(answer["rows"]) for answer in answers] == sizes
    assert torch.equal(torch.cat([answer["rows"] for answer in answers]), torch.arange(B))
    for answer in answers:
        assert torch.equal(answer["out"], torch.arange(2 * B * 3, dtype=torch.float64).view(2 * B, 3))
        # Every process has a gradient for every row, and here they are the same.
        torch.testing.assert_close(answer["grad"], world * answer["expected"])


def test_a_batch_too_small_to_be_shared_is_everyones():
    for answer in run(jobs.gathered, 3, 5):
        assert torch.equal(answer["rows"], torch.arange(5))
        torch.testing.assert_close(answer["grad"], answer["expected"])


@pytest.mark.parametrize("n", [7, 8, 2, 1])
def test_weighted_means_of_shares_average_to_the_mean_over_all_rows(n):
    values, total = torch.arange(n, dtype=torch.float64) ** 2, 0.0
    for rank in range(3):
        shares = Shares(SimpleNamespace(rank=rank, world=3), n)
        total += shares.weight * float(shares.own(values).mean()) / 3
    assert total == pytest.approx(float(values.mean()))


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("loss", sorted(jobs.LOSSES))
@pytest.mark.parametrize(("world", "B"), [(2, 9), (3, 10)])
def test_gradients_are_those_of_one_process(world, B, loss, norm):
    alone = jobs.learnt(None, B, loss, norm)
    tolerance = 1e-5 if loss == "cc" else 1e-9  # columns are compared in float32
    for answer in run(jobs.learnt, world, B, loss, norm):
        for name, value in alone.items():
            torch.testing.assert_close(answer[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("shape", [(9, 4), (8, 3, 5), (7, 2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_batch_normalisation_takes_the_statistics_of_all(shape, dtype):
    alone = jobs.normalized(None, shape, dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for answer in run(jobs.normalized, 2, shape, dtype):
        assert answer["trained"].dtype == dtype
        for name, value in alone.items():
            torch.testing.assert_close(answer[name], value, rtol=tolerance, atol=tolerance)
