"""Weighted keys: inclusion against exact probabilities, independence of shards, weights at their ends."""

import math

import numpy as np
import pytest
import torch

from pyfast_mmcl.ops.sampling import Reservoir, merge_reservoir, reservoir_keys, weighted_keys
from pyfast_mmcl.ops.sampling.keys import _mix
from pyfast_mmcl.ops.sampling.weighted import weighted_keys_reference
from tests.check import assert_same_bits
from tests.ops.sampling.test_uniform import scalar_log
from tests.ops.sampling.truth import assert_frequencies, splitmix_key, subset_probabilities

WEIGHTS = (1.0, 0.5, 3.0, 7.0, 0.25)


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_inclusion_has_the_exact_probabilities_of_a_res(kept):
    trials, n = 30_000, len(WEIGHTS)
    keys = weighted_keys(9, torch.arange(trials * n), torch.tensor(WEIGHTS).repeat(trials)).view(trials, n)
    sets = keys.topk(kept).indices.sort().values
    exact = subset_probabilities(WEIGHTS, kept)
    codes = (sets * torch.tensor([n**place for place in range(kept)])).sum(1)
    counts = [int((codes == sum(i * n**place for place, i in enumerate(members))).sum()) for members in exact]
    assert sum(counts) == trials
    assert_frequencies(counts, list(exact.values()))


def test_uniform_keys_give_every_subset_the_same_chance():
    trials, n, kept = 30_000, 6, 3
    keys = reservoir_keys(4, torch.arange(trials * n)).view(trials, n)
    codes = (1 << keys.topk(kept).indices).sum(1)
    counts = torch.bincount(codes, minlength=64)
    counts = counts[counts > 0]
    assert len(counts) == math.comb(n, kept)
    assert_frequencies(counts, np.full(len(counts), 1 / len(counts)))


def test_keys_are_the_definition_bit_for_bit():
    ids, w = [0, 5, -3, 2**40], [2.0, 0.1, 1e-12, 1e200]
    u = [((splitmix_key(_mix(7), i) % 2**64 >> 12) + 0.5) * 2.0**-52 for i in ids]
    ours = weighted_keys(7, torch.tensor(ids), torch.tensor(w, dtype=torch.float64))
    assert ours.dtype == torch.float64 and ours.tolist() == [scalar_log(a) / b for a, b in zip(u, w, strict=True)]


def test_the_keys_of_the_reference_are_the_same_bits():
    ids, w = torch.randint(-(2**62), 2**62, (5000,)), torch.rand(5000, dtype=torch.float64) ** 9
    w[::17] = 0
    assert_same_bits(weighted_keys(-3, ids, w), weighted_keys_reference(-3, ids, w))


def test_shards_merge_to_the_whole():
    ids = torch.randperm(3000)
    w = torch.rand(3000) ** 3
    keys = weighted_keys(1, ids, w)
    whole = ids[merge_reservoir(keys, ids, 40)]
    parts = [part[merge_reservoir(keys[part], ids[part], 40)] for part in torch.randperm(3000).split(701)]
    union = torch.cat(parts)
    assert torch.equal(ids[union[merge_reservoir(keys[union], ids[union], 40)]], whole)


def test_weight_zero_enters_only_where_nothing_else_does():
    ids, w = torch.arange(10), torch.tensor([0.0] * 8 + [1.0, 2.0])
    keys = weighted_keys(0, ids, w)
    assert bool((keys[:8] == -torch.inf).all()) and bool(keys[8:].isfinite().all())
    assert set(merge_reservoir(keys, ids, 2).tolist()) == {8, 9}
    assert merge_reservoir(keys, ids, 4)[2:].tolist() == [0, 1]  # by id


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_weights_of_any_type_and_numpy(dtype):
    w = torch.tensor([1, 2, 3, 4]).to(dtype)
    ours = weighted_keys(2, torch.arange(4), w)
    assert_same_bits(ours, weighted_keys(2, torch.arange(4), w.double()))
    if dtype != torch.bfloat16:
        array = weighted_keys(2, np.arange(4), w.numpy())
        assert isinstance(array, np.ndarray)
        assert_same_bits(ours, torch.from_numpy(array))


def test_a_weight_of_minus_zero_is_a_weight_of_zero(backend):
    ids, weights = torch.arange(4), torch.tensor([-0.0, 1.0, 1.0, 1.0])
    assert weighted_keys(0, ids, weights)[0] == -torch.inf
    reservoir = Reservoir(3, backend=backend)
    reservoir.offer(ids, weights=weights)
    assert sorted(reservoir.index.tolist()) == [1, 2, 3]
