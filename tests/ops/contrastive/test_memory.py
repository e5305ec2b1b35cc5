"""Working memory does not grow with the number of pairs: gradients, packed rows and tiles of some MiB, never N×M."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pyfast_mmcl.ops.contrastive import info_nce, nt_xent, relation_distance, siglip, similarity_kl, sup_con
from tests.ops.knn.test_memory import STATUS, peak_growth

MIB = 2**20
ROWS = {"native": 8192, "torch": 6144}  # a float32 matrix of all pairs takes 256 or 144 MiB
LIMIT = {"native": 64 * MIB, "torch": 96 * MIB}


def training_step(name: str, a: torch.Tensor, b: torch.Tensor, backend: str):
    """One forward and backward pass of an op over the rows of a and b."""
    teachers, labels = (a.detach(), b.detach()), torch.arange(len(a)) % 100
    calls = {
        "info_nce": lambda: info_nce(a, b, 20.0, backend=backend),
        "nt_xent": lambda: nt_xent(a, 20.0, backend=backend),
        "sup_con": lambda: sup_con(a, labels, 20.0, backend=backend),
        "siglip": lambda: siglip(a, b, 20.0, -10.0, backend=backend),
        "similarity_kl": lambda: similarity_kl(
            a, b, *teachers, student_scale=20.0, teacher_scale=15.0, backend=backend
        ),
        "relation_distance": lambda: relation_distance(a, teachers[1]),
    }

    def step() -> None:
        a.grad = b.grad = None
        calls[name]().backward()

    return step


OPS = ("info_nce", "nt_xent", "sup_con", "siglip", "similarity_kl")


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc to see the memory in use")
@pytest.mark.parametrize("name, backend", [*((name, "native") for name in OPS), ("info_nce", "torch")])
def test_peak_of_a_training_step(name, backend):
    small = [torch.randn(64, 16, requires_grad=True) for _ in range(2)]
    training_step(name, *small, backend)()  # threads and caches exist before the measurement
    a, b = (torch.randn(ROWS[backend], 16, requires_grad=True) for _ in range(2))
    assert peak_growth(training_step(name, a, b, backend)) < LIMIT[backend]


@pytest.mark.parametrize("name", [*OPS, "relation_distance"])
def test_no_tensor_of_all_pairs_is_allocated(name):
    n = 2100
    a, b = (torch.randn(n, 8, requires_grad=True) for _ in range(2))
    step = training_step(name, a, b, "torch")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        step()
    largest = max(event.self_cpu_memory_usage for event in trace.events())
    assert 1 * MIB < largest <= 8.5 * MIB < n * n * 4


def test_double_the_rows_needs_double_the_memory_at_most():
    def peak(n: int) -> int:
        a, b = (torch.randn(n, 32, requires_grad=True) for _ in range(2))
        step = training_step("info_nce", a, b, "native")
        step()
        return peak_growth(step)

    if not STATUS.exists():
        pytest.skip("needs Linux's /proc to see the memory in use")
    assert peak(8192) <= 2 * peak(4096) + 16 * MIB
