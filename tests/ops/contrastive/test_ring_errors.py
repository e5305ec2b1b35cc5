"""A mistake on one rank is one sentence on every rank, and nobody waits for ever."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.contrastive import info_nce, nt_xent, siglip, sup_con
from tests.check import raises_sentence
from tests.ops.contrastive import ring_jobs as jobs
from tests.processes import WORLD, pool

RANKS = (0, 1, 2, 3)

# What rank 2 does differently from the others, and words of the sentence that all of them raise.
DIFFERENCES = [
    ({"features": 8}, ("features", "7 on rank 0, 1, 3", "8 on rank 2")),
    ({"dtype": "float64"}, ("dtype", "float32", "float64 on rank 2")),
    ({"scale": 5.0}, ("scale", "10.0", "5.0 on rank 2", "broadcast")),
    ({"scale": float("nan")}, ("scale", "nan on rank 2")),
    ({"direction": "ab"}, ("direction", "both", "ab on rank 2")),
    ({"reduction": "sum"}, ("reduction", "mean", "sum on rank 2")),
    ({"precision": "float32"}, ("precision", "auto", "float32 on rank 2")),
    ({"labels": [0, 1, 2]}, ("labels", "no labels", "labels on rank 2")),
    ({"weights": [1.0, 2.0, 3.0]}, ("weights", "no weights", "weights on rank 2")),
    ({"requires_grad": False}, ("gradients wanted", "a and b on rank 0, 1, 3", "none on rank 2", "requires_grad")),
    ({"op": "siglip"}, ("same op", "info_nce", "siglip on rank 2")),
    ({"rows": 2}, ("a and b", "2", "3", "labels")),
    ({"precision": "float8"}, ("precision", "float8", "bfloat16")),
    ({"backend": "tritn"}, ("backend", "tritn", "triton")),
    ({"labels": [0, 1]}, ("labels", "[3]", "[2]")),
]


@pytest.mark.parametrize(("different", "words"), DIFFERENCES, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_one_rank_that_differs(different, words):
    answers = pool().run(jobs.differing, RANKS, *[({} if rank != 2 else different,) for rank in RANKS])
    for answer in answers:
        assert isinstance(answer, InputError), answer
        text = str(answer)
        assert "\n" not in text and all(word in text for word in words), text
    # The ring is usable afterwards.
    values = pool().run(jobs.differing, RANKS, *[({},)] * 4)
    assert len(set(values)) == 1 and isinstance(values[0], float)


def test_a_backend_that_one_rank_cannot_run_is_named_on_the_others():
    given = [({"backend": "native", "dtype": "float64"},) if rank == 1 else ({"dtype": "float64"},) for rank in RANKS]
    answers = pool().run(jobs.differing, RANKS, *given)
    assert all("native" in str(answer) and "float64" in str(answer) for answer in answers)
    assert "rank 1 reports" in str(answers[0]) and "\n" not in str(answers[0])


def test_odd_views_on_one_rank():
    answers = pool().run(jobs.odd_views, RANKS, *[(4,), (4,), (3,), (4,)])
    assert all(isinstance(x, InputError) and "even number of rows" in str(x) for x in answers)
    assert "rank 2 reports" in str(answers[0])


def test_a_derivative_of_the_gradient():
    answers = pool().run(jobs.second_derivative, RANKS, *[("info_nce",)] * 4)
    assert all(
        isinstance(x, RuntimeError) and "one derivative" in str(x) and "reference.info_nce" in str(x) for x in answers
    )


@pytest.mark.parametrize("op", (info_nce, nt_xent, sup_con, siglip))
def test_without_torch_distributed(op):
    z = torch.zeros(4, 3)
    given = {info_nce: (z, z, 1.0), nt_xent: (z, 1.0), sup_con: (z, [0, 0, 1, 1], 1.0), siglip: (z, z, 1.0, 0.0)}
    with raises_sentence(InputError, "process_group", "init_process_group"):
        op(*given[op], process_group=object())


def test_something_that_is_no_group():
    for answer in pool().run(jobs.no_group, RANKS, *[()] * 4):
        assert isinstance(answer, InputError) and "expected a torch.distributed process group" in str(answer)


def test_a_process_outside_the_group():
    answers = pool().run(jobs.outside, tuple(range(WORLD)), *[()] * WORLD)
    assert all(isinstance(x, float) for x in answers[:2])
    assert all(isinstance(x, InputError) and "not a member" in str(x) for x in answers[2:])


def test_cpu_rows_in_a_group_that_carries_gpu_memory_only():
    for answer in pool().run(jobs.device_not_carried, RANKS, *[()] * 4):
        assert isinstance(answer, InputError) and "nccl for cuda only" in str(answer) and "cpu:gloo" in str(answer)


DIES = """
import sys, torch, torch.distributed as dist
from datetime import timedelta
from pyfast_mmcl.ops.contrastive import info_nce
rank = int(sys.argv[1])
dist.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
a = torch.eye(3, requires_grad=True)
loss = info_nce(a, a, 2.0, process_group=dist.group.WORLD)
if rank == 1:
    import os
    os._exit(3)
loss.backward()
"""


def test_a_rank_that_dies_ends_the_others_by_an_error(tmp_path):
    command = [sys.executable, "-c", DIES]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE) for rank in (0, 1)
    ]
    codes = [process.wait(timeout=150) for process in ranks]
    text = ranks[0].stderr.read().decode()
    for process in ranks:
        process.stderr.close()
    assert codes == [1, 3] and ("closed" in text or "Timed out" in text or "reset" in text), text
    assert not dist.is_initialized()
