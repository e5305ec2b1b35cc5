"""The ring with rows on GPUs: over NCCL, and over gloo, whose messages are copied through CPU memory."""

import pytest
import torch

from tests.check import assert_no_worse
from tests.ops.contrastive import ring_jobs as jobs
from tests.ops.contrastive.ring_jobs import Case
from tests.processes import pool

pytestmark = pytest.mark.gpu
RANKS = (0, 1, 2, 3)
ROWS = (130, 257, 0, 64)
OPS = ("info_nce", "nt_xent", "sup_con", "siglip")


def compare(case: Case, answers: list) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    truth, plain = jobs.in_one_process(case), jobs.in_one_process(case, getattr(torch, case.dtype))
    for answer in answers:
        assert_no_worse(answer["value"], plain["value"], truth["value"], atol=2e-6)
    for name, gradient in jobs.joined(answers).items():
        assert_no_worse(gradient, plain[name], truth[name], atol=5e-6)


def case_of(op: str, dtype: str, rows: tuple[int, ...]) -> Case:
    rows = tuple(n + n % 2 for n in rows) if op == "nt_xent" else rows
    return Case(op, rows, rows, dtype, scale=20.0, labels=9 if op == "sup_con" else 0, device="cuda")


@pytest.mark.parametrize("dtype", ("float32", "bfloat16"))
@pytest.mark.parametrize("op", OPS)
def test_gloo_with_all_ranks_on_one_gpu(op, dtype):
    case = case_of(op, dtype, ROWS)
    compare(case, pool().run(jobs.on_rank, RANKS, *[(case,)] * 4))


@pytest.mark.parametrize("op", OPS)
def test_nccl_with_one_rank_per_gpu(op):
    case = case_of(op, "float32", ROWS[: min(torch.cuda.device_count(), 4)])
    answers = pool().run(jobs.over_nccl, RANKS, *[(case,)] * 4)
    compare(case, [answer for answer in answers if answer is not None])
