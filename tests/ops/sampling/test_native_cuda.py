"""The CUDA samplers give the bits of the CPU ones. Layout and refusals are tested everywhere, the rest on a GPU."""

import pytest
import torch

from pyfast_mmcl import _native
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import _native_sampling as native
from pyfast_mmcl.ops.sampling import _native_sampling_cuda as cuda
from pyfast_mmcl.ops.sampling import reservoir_keys
from tests.check import raises_sentence

pytestmark = pytest.mark.skipif(not _native.info()["cuda"], reason="the compiled module was built without CUDA")
gpu = pytest.mark.gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("capacity", [1, 16, 17, 256, 257, 4096, 4097, 10**6])
def test_a_tree_is_laid_out_level_by_level(capacity: int) -> None:
    entries, children = 0, capacity
    while True:
        children = -(-children // 16)
        entries += -(-children // 16) * 16
        if children == 1:
            break
    assert _native.module().tree_entries(capacity) == entries


def test_refusals() -> None:
    for capacity in (0, 2**31):
        with raises_sentence(InputError, "capacity", str(capacity)):
            _native.module().tree_entries(capacity)
    x = torch.zeros(3, 2)
    ok, reason = cuda.usable(x)
    assert not ok and "cpu" in reason
    with raises_sentence(InputError, "features", "CUDA"):
        cuda._native.module().k_center_cuda(*[_native.capsule(x)] * 6, 0)


def priorities(n: int) -> torch.Tensor:
    p = torch.exp(8 * torch.randn(n))
    p[torch.rand(n) < 0.25] = 0
    p[-1] = 1
    return p


@gpu
@pytest.mark.parametrize("capacity", [1, 16, 17, 300, 5000, 70_000])
def test_tree(capacity: int) -> None:
    leaves = priorities(capacity)
    ours, theirs = cuda.PriorityTree(capacity, "cuda"), native.PriorityTree(capacity)
    ours.load(leaves.cuda())
    theirs.load(leaves)
    for turn, n in enumerate((0, 1, 33, 1000, 4096, 4097, 30_000)):
        index, values = torch.randint(capacity, (n,)), priorities(n) if n else torch.zeros(0)
        ours.update(index.cuda(), values.cuda())
        theirs.update(index, values)
        assert torch.equal(ours.leaves().cpu(), theirs.leaves())
        assert (float(ours.total), float(ours.minimum)) == (theirs.total, theirs.minimum)
        assert int(ours.positive) == len(theirs)
        for stratified in (True, False):
            if len(theirs) == 0:
                continue
            one, two = ours.sample(3000, 5, turn, stratified), theirs.sample(3000, 5, turn, stratified)
            assert torch.equal(one[0].cpu(), two[0]) and torch.equal(one[1].cpu(), two[1])
    assert int(ours.flaw) == 0


@gpu
def test_a_tree_leaves_out_what_it_cannot_refuse() -> None:
    tree = cuda.PriorityTree(20, "cuda")
    index, priority = tree.sample(4, 0, 0)
    assert (index == -1).all() and priority.isnan().all()
    tree.update(torch.tensor([3, 20, -1, 4], device="cuda"), torch.tensor([1.0, 9.0, 9.0, float("nan")], device="cuda"))
    assert float(tree.total) == 1 and int(tree.flaw) == 2


@gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, d", [(1, 1), (17, 9), (97, 64), (1000, 130)])
def test_herding_and_k_center(dtype: torch.dtype, n: int, d: int) -> None:
    for x in (torch.randn(n, d).to(dtype), torch.randint(-3, 4, (n, d)).to(dtype)):
        m = min(n, 40)
        assert torch.equal(cuda.herding(x.cuda(), m + 2).cpu(), native.herding(x, m + 2))
        for first in (None, n - 1):
            chosen, radius = cuda.k_center(x.cuda(), m, first)
            expected, wide = native.k_center(x, m, first)
            assert torch.equal(chosen.cpu(), expected) and float(radius) == wide
        centers = torch.randn(5, d).to(dtype)
        chosen, radius = cuda.k_center(x.cuda(), m, None, centers.cuda())
        expected, wide = native.k_center(x, m, None, centers)
        assert torch.equal(chosen.cpu(), expected) and float(radius) == wide


@gpu
def test_herding_of_groups() -> None:
    x, groups = torch.randn(500, 33), torch.randint(7, (500,))
    groups[groups == 3] = 4  # an empty group
    rows = groups.argsort(stable=True)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(groups, minlength=7).cumsum(0)])
    expected = native.herding(x, 90, rows, offsets)
    assert torch.equal(cuda.herding(x.cuda(), 90, rows.cuda(), offsets.cuda()).cpu(), expected)


@gpu
@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 1025, 3_000_000])
def test_rows_that_a_full_reservoir_accepts(n: int) -> None:
    index = torch.arange(n) * 13 - 4
    keys = reservoir_keys(9, index)
    threshold = torch.tensor([2**62])
    ours, rows, count = cuda.reservoir_accept(9, index.cuda(), threshold.cuda())
    assert torch.equal(ours.cpu(), keys)
    assert torch.equal(rows[: int(count)].cpu(), torch.nonzero(keys >= 2**62)[:, 0])
