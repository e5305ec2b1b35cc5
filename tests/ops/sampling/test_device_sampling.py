"""The sampling ops on a GPU: what the CPU gives, bit for bit, by the compiled kernels and by torch."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops import sampling
from pyfast_mmcl.ops.sampling import _dispatch
from tests.check import assert_same_bits

pytestmark = pytest.mark.gpu


@pytest.fixture(params=["torch", "native"])
def on_gpu(request):
    """A backend of GPU tensors; skips an op that it does not have."""

    def backend(op):
        usable, reason = _dispatch.native_usable(op, torch.empty(0, device="cuda"))
        if request.param == "native" and not usable:
            pytest.skip(reason)
        return request.param

    return backend


def test_keys_and_weighted_keys():
    ids, w = torch.arange(-500, 4500), torch.rand(5000)
    assert_same_bits(sampling.reservoir_keys(7, ids.cuda()), sampling.reservoir_keys(7, ids))
    assert_same_bits(sampling.weighted_keys(7, ids.cuda(), w.cuda()), sampling.weighted_keys(7, ids, w))


@pytest.mark.parametrize("groups", [1, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_herding(on_gpu, groups, dtype):
    backend = on_gpu("herding")
    features, member = torch.randn(700, 65).to(dtype), torch.randint(groups, (700,))
    for normalize in (False, True):
        options = {"groups": member, "normalize": normalize}
        expected = sampling.herding(features, 50, **options)
        options["groups"] = member.cuda()
        assert torch.equal(sampling.herding(features.cuda(), 50, backend=backend, **options).cpu(), expected)


@pytest.mark.parametrize("known", [0, 5])
def test_k_center(on_gpu, known):
    backend = on_gpu("k_center")
    features = torch.randn(900, 33)
    old = features[:known] + 0.5
    indices, radius = sampling.k_center(features, 60, centers=old)
    again, same = sampling.k_center(features.cuda(), 60, centers=old.cuda(), backend=backend)
    assert torch.equal(again.cpu(), indices) and same == radius


def test_tree(on_gpu):
    backend = on_gpu("PriorityTree")
    priorities = torch.rand(70_000) ** 3
    trees = [
        sampling.PriorityTree(70_000, seed=3),
        sampling.PriorityTree(70_000, seed=3, device="cuda", backend=backend),
    ]
    for tree in trees:
        tree.update(torch.arange(70_000, device=tree.device), priorities.to(tree.device))
    for step in range(3):
        cpu, gpu = (tree.sample(4097, beta=0.4, stratified=step != 1) for tree in trees)
        assert torch.equal(gpu.index.cpu(), cpu.index)
        assert_same_bits(gpu.probability, cpu.probability)
        torch.testing.assert_close(gpu.weight.cpu(), cpu.weight, rtol=1e-14, atol=0)
        for tree, draw in zip(trees, (cpu, gpu), strict=True):
            tree.update(draw.index, (draw.probability * 1e4).clamp(min=1e-3))
        assert [(t.total, t.minimum, len(t)) for t in trees[:1]] == [(t.total, t.minimum, len(t)) for t in trees[1:]]
    again = sampling.PriorityTree(70_000)
    again.load_state_dict(trees[1].state_dict())
    assert again.total == trees[0].total
    with pytest.raises(InputError, match="nan"):
        trees[1].update(torch.tensor([1], device="cuda"), torch.tensor([float("nan")], device="cuda"))


@pytest.mark.parametrize("grouped, weighted", [(False, False), (True, False), (False, True)])
def test_reservoir(on_gpu, grouped, weighted):
    backend = on_gpu("Reservoir")
    cpu, gpu = sampling.Reservoir(300, seed=1), sampling.Reservoir(300, seed=1, device="cuda", backend=backend)
    for ids in torch.randperm(20_000).split(999):
        extra = {"groups": ids % 9} if grouped else {"weights": ids % 5 + 0.5} if weighted else {}
        cpu.offer(ids, **extra)
        gpu.offer(ids.cuda(), **{name: x.cuda() for name, x in extra.items()})
    assert torch.equal(gpu.index[gpu.order()].cpu(), cpu.index[cpu.order()])
    assert_same_bits(gpu.keys[gpu.order()], cpu.keys[cpu.order()])


def test_weights_that_stay():
    w = torch.rand(3000)
    table, same = sampling.AliasTable(w), sampling.AliasTable(w.cuda())
    assert torch.equal(same.sample(5000, step=2).cpu(), table.sample(5000, step=2))
    for log in (False, True):
        weights = w.double().log() if log else w
        drawn = sampling.gumbel_top_k(weights.cuda(), 99, seed=5, log=log)
        assert torch.equal(drawn.cpu(), sampling.gumbel_top_k(weights, 99, seed=5, log=log))


def test_shares_and_merges():
    ids, groups = torch.randperm(5000), torch.randint(11, (5000,))
    keys = sampling.reservoir_keys(0, ids)
    kept = sampling.merge_reservoir(keys.cuda(), ids.cuda(), 200, groups=groups.cuda())
    assert torch.equal(kept.cpu(), sampling.merge_reservoir(keys, ids, 200, groups=groups))
    counts, weights = groups.bincount(), torch.rand(11)
    shares = sampling.balanced_allocation(counts.cuda(), 700, weights=weights.cuda())
    assert torch.equal(shares.cpu(), sampling.balanced_allocation(counts, 700, weights=weights))
