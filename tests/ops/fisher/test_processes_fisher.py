"""Several processes with shares of the samples find what one process with all of them finds."""

import pytest
import torch

from pyfast_mmcl.ops.fisher import fisher_diagonal
from tests.ops.fisher.process_jobs import problem, share
from tests.ops.fisher.truth import assert_fisher
from tests.processes import pool


@pytest.mark.parametrize("labels", ["empirical", "sampled", "exact"])
@pytest.mark.parametrize("world", [2, 3])
def test_equal_to_one_process(world, labels):
    model, x, y = problem()
    expected = fisher_diagonal(model, [(x, y)], labels=labels)
    ranks = tuple(range(world))
    answers = pool().run(share, ranks, *[(rank, world, labels, None) for rank in ranks])
    for answer in answers:
        assert_fisher({n: torch.from_numpy(f) for n, f in answer.items()}, expected, rtol=1e-12)


def test_a_process_without_samples_takes_part():
    model, x, y = problem()
    expected = fisher_diagonal(model, [(x, y)])
    answers = pool().run(share, (0, 1), (0, 2, "empirical", tuple(range(11))), (1, 2, "empirical", ()))
    for answer in answers:
        assert_fisher({n: torch.from_numpy(f) for n, f in answer.items()}, expected, rtol=1e-12)


def test_no_samples_anywhere_is_an_error_on_every_process():
    answers = pool().run(share, (0, 1), (0, 2, "empirical", ()), (1, 2, "empirical", ()))
    assert all("at least one sample" in answer for answer in answers)
