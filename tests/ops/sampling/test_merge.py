"""The merged reservoir: row by row, and the same from any shards."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from pyfast_mmcl.ops.sampling import merge_reservoir, reservoir_keys, weighted_keys
from tests.ops.sampling.truth import assert_equal_chances, best

IDS = st.lists(st.integers(-20, 60), max_size=60)


def keys_of(ids, weighted):
    ids = torch.tensor(ids, dtype=torch.int64)
    # few different weights and 0, so that keys tie at −inf
    return weighted_keys(3, ids, (ids % 4).double()) if weighted else reservoir_keys(3, ids)


@settings(max_examples=120)
@given(IDS, st.integers(0, 30), st.booleans(), st.sampled_from([None, 1, 3, 7]))
def test_rows_are_those_of_the_definition(ids, capacity, weighted, groups):
    keys, names = keys_of(ids, weighted), None if groups is None else [i % groups - 2 for i in ids]
    index = torch.tensor(ids, dtype=torch.int64)
    ours = merge_reservoir(keys, index, capacity, groups=None if names is None else torch.tensor(names).long())
    assert ours.tolist() == best(keys.tolist(), ids, capacity, names)


def test_keys_that_tie_go_to_the_smaller_id_and_an_id_counts_with_its_largest_key():
    keys, ids = torch.tensor([5, 7, 5, 5, 9, 1, 5]), torch.tensor([40, 3, 10, 30, 3, 77, 20])
    assert merge_reservoir(keys, ids, 4).tolist() == [4, 2, 6, 3]
    assert merge_reservoir(keys, ids, 99).tolist() == [4, 2, 6, 3, 0, 5]


@pytest.mark.parametrize("copies", [1, 2, 50])
def test_few_of_many_with_repeated_ids(copies):
    # more copies than the fast path looks at force the full sort
    ids = torch.arange(400).repeat(copies)[torch.randperm(400 * copies)]
    keys = reservoir_keys(8, ids)
    assert merge_reservoir(keys, ids, 9).tolist() == best(keys.tolist(), ids.tolist(), 9)


@settings(max_examples=100)
@given(IDS.filter(len), st.integers(1, 25), st.booleans(), st.booleans(), st.data())
def test_any_shards_in_any_order_give_the_same_set(ids, capacity, weighted, grouped, data):
    keys, index = keys_of(ids, weighted), torch.tensor(ids)
    groups = index.remainder(5) if grouped else None

    def kept(rows):
        positions = merge_reservoir(keys[rows], index[rows], capacity, groups=groups[rows] if grouped else None)
        return rows[positions]

    order = torch.tensor(data.draw(st.permutations(range(len(ids)))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4)))
    shards = [kept(part) for part in order.tensor_split(cuts)]
    merged = kept(torch.cat(shards))
    assert index[merged].tolist() == index[kept(torch.arange(len(ids)))].tolist()
    # one after the other, as a stream would
    stream = order[:0]
    for part in order.tensor_split(cuts):
        stream = kept(torch.cat([stream, part]))
    assert index[stream].tolist() == index[merged].tolist()


def test_places_in_the_stream_pass_kolmogorov_smirnov():
    ids = torch.arange(100_000)
    kept = merge_reservoir(reservoir_keys(6, ids), ids, 5000)
    assert kstest(kept.numpy() / 1e5, "uniform").pvalue > 1e-3


def test_within_a_group_every_row_has_the_same_chance():
    # Sizes 30, 8, 3 and 50 in a memory of 20: shares 6, 6, 3, 5.
    groups = torch.cat([torch.full((n,), g) for g, n in enumerate((30, 8, 3, 50))])
    ids, seeds = torch.arange(len(groups)), 600
    counts = torch.zeros(len(groups))
    for seed in range(seeds):
        counts[merge_reservoir(reservoir_keys(seed, ids), ids, 20, groups=groups)] += 1
    for group, share in ((0, 6), (1, 6), (3, 5)):
        assert_equal_chances(counts[groups == group], seeds, share)
    assert bool((counts[groups == 2] == seeds).all())


def test_numpy_sliced_and_narrow_input():
    ids = np.arange(100, dtype=np.int32)[::-2]
    keys = reservoir_keys(0, ids)
    ours = merge_reservoir(keys, ids, 7, groups=(ids % 3).astype(np.uint8))
    assert isinstance(ours, np.ndarray) and ours.tolist() == best(keys.tolist(), ids.tolist(), 7, (ids % 3).tolist())
    empty = merge_reservoir(torch.zeros(0).long(), torch.zeros(0).long(), 5, groups=torch.zeros(0).long())
    assert empty.shape == (0,) and empty.dtype == torch.int64
