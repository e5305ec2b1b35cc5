"""The compiled reservoir against its definition: a set of (key, id), shared out among groups by water-filling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from pyfast_mmcl import _native
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import _native_sampling as native
from pyfast_mmcl.ops.sampling import reservoir_keys
from tests.check import raises_sentence

pytestmark = pytest.mark.skipif(not _native.available()[0], reason="the compiled kernels are missing")


def shares(counts: dict[int, int], capacity: int) -> dict[int, int]:
    """Water-filling by hand: rows are dealt one at a time to the group that has least, the smaller number first."""
    given = dict.fromkeys(counts, 0)
    for _ in range(min(capacity, sum(counts.values()))):
        group = min((g for g in counts if given[g] < counts[g]), key=lambda g: (given[g], g))
        given[group] += 1
    return given


def content(offered: dict[int, tuple[float, int]], capacity: int) -> set[int]:
    """Ids that belong in the reservoir when {id: (key, group)} has been offered."""
    groups: dict[int, list[int]] = {}
    for index, (_, group) in offered.items():
        groups.setdefault(group, []).append(index)
    quota = shares({g: len(ids) for g, ids in groups.items()}, capacity)
    return {i for g, ids in groups.items() for i in sorted(ids, key=lambda i: (-offered[i][0], i))[: quota[g]]}


def keys_of(seed: int, index: list[int]) -> list[int]:
    return reservoir_keys(seed, torch.tensor(index, dtype=torch.int64)).tolist()


class Storage:
    """What a memory does with an offer: writes row contents into slots."""

    def __init__(self, capacity: int) -> None:
        self.slots = np.full(capacity, -1)

    def write(self, batch: torch.Tensor, offer: tuple[torch.Tensor, torch.Tensor]) -> None:
        rows, slots = offer
        assert slots.unique().numel() == slots.numel() and torch.equal(rows, rows.sort().values)
        self.slots[slots.numpy()] = batch[rows].numpy()


batches_of_rows = st.lists(st.lists(st.tuples(st.integers(-20, 60), st.integers(-2, 4)), max_size=25), max_size=12)


@settings(max_examples=80)
@given(st.integers(1, 30), batches_of_rows, st.booleans())
def test_content_is_a_function_of_the_set_offered(capacity: int, batches: list, grouped: bool) -> None:
    reservoir, storage = native.Reservoir(capacity, seed=7), Storage(capacity)
    offered: dict[int, tuple[float, int]] = {}
    for batch in batches:
        index = torch.tensor([i for i, _ in batch], dtype=torch.int64)
        groups = torch.tensor([i % 5 - 2 if grouped else 0 for i, _ in batch], dtype=torch.int64)
        storage.write(index, reservoir.offer(index, groups if grouped else None))
        for i, key, g in zip(index.tolist(), keys_of(7, index.tolist()), groups.tolist(), strict=True):
            offered[i] = (key, g)
        ids, keys, held = reservoir.state()
        assert set(ids.tolist()) == content(offered, capacity) and len(ids) == len(set(ids.tolist())) == len(reservoir)
        assert storage.slots[: len(ids)].tolist() == ids.tolist()
        assert [(k, g) for k, g in zip(keys.tolist(), held.tolist(), strict=True)] == [offered[i] for i in ids.tolist()]


@settings(max_examples=80)
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=120), st.integers(1, 40))
def test_weighted_content_takes_the_largest_key_of_an_id(capacity: int, rows: list, size: int) -> None:
    reservoir, offered = native.Reservoir(capacity, seed=-3, weighted=True), {}
    for start in range(0, len(rows), size):
        index = torch.tensor([i for i, _ in rows[start : start + size]], dtype=torch.int64)
        weights = torch.tensor([w for _, w in rows[start : start + size]], dtype=torch.float64)
        reservoir.offer(index, weights=weights)
        for i, key in zip(index.tolist(), native.weighted_keys(-3, index, weights).tolist(), strict=True):
            offered[i] = (max(key, offered.get(i, (key, 0))[0]), 0)
    ids, keys, _ = reservoir.state()
    order = ids[reservoir.order()].tolist()
    assert set(order) == content(offered, capacity)
    assert order == sorted(order, key=lambda i: (-offered[i][0], i))
    assert dict(zip(ids.tolist(), keys.tolist(), strict=True)) == {i: offered[i][0] for i in order}


def stream_content(order: torch.Tensor, size: int, capacity: int, groups: torch.Tensor | None) -> set[int]:
    reservoir = native.Reservoir(capacity, seed=1)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        reservoir.offer(batch, None if groups is None else groups[batch])
    return set(reservoir.state()[0].tolist())


@pytest.mark.parametrize("grouped", [False, True])
def test_order_and_batching_do_not_matter(isa: str, grouped: bool) -> None:
    n = 4000
    groups = (torch.arange(n) ** 2 // n % 23) if grouped else None  # small and large groups, some of them late
    seen = [stream_content(torch.arange(n), 1000, 500, groups), stream_content(torch.arange(n).flip(0), 7, 500, groups)]
    seen += [stream_content(torch.randperm(n), size, 500, groups) for size in (1, 999, n)]
    keys = reservoir_keys(1, torch.arange(n)).tolist()
    offered = {i: (keys[i], int(groups[i]) if grouped else 0) for i in range(n)}
    assert all(ids == content(offered, 500) for ids in seen)


def test_top_of_the_tops_of_shards() -> None:
    n, capacity = 5000, 100
    whole = stream_content(torch.arange(n), 64, capacity, None)
    shards = [stream_content(torch.arange(n)[rank::3].contiguous(), 64, capacity, None) for rank in range(3)]
    assert stream_content(torch.tensor([i for ids in shards for i in ids]), 50, capacity, None) == whole


def test_a_group_is_sampled_uniformly_although_its_share_shrank() -> None:
    # Ten groups arrive one after another; the first one's share falls from 200 to 20 on the way.
    counts = np.zeros(400)
    for seed in range(300):
        reservoir = native.Reservoir(200, seed)
        for group in range(10):
            ids = torch.arange(group * 400, group * 400 + 400)
            if group:
                ids = torch.cat([ids, torch.arange(group * 40, group * 40 + 40)])  # and the first group goes on
            reservoir.offer(ids, ids // 400)
        ids, _, groups = reservoir.state()
        assert torch.bincount(groups).tolist() == [20] * 10
        counts[ids[groups == 0].numpy()] += 1
    assert chisquare(counts.reshape(40, 10).sum(1)).pvalue > 1e-3


def test_inclusion_is_uniform_over_the_stream() -> None:
    held = []
    for seed in range(200):
        reservoir = native.Reservoir(50, seed)
        for start in range(0, 5000, 250):
            reservoir.offer(torch.arange(start, start + 250))
        held.append(reservoir.state()[0].numpy())
    assert kstest(np.concatenate(held) / 5000, "uniform").pvalue > 1e-3


def test_weights_decide_how_often_a_row_is_held() -> None:
    weights = torch.tensor([1.0, 2.0, 4.0, 0.0], dtype=torch.float64)
    first = np.zeros(4)
    for seed in range(4000):
        reservoir = native.Reservoir(1, seed, weighted=True)
        reservoir.offer(torch.arange(4), weights=weights)
        first[int(reservoir.state()[0])] += 1
    assert first[3] == 0 and chisquare(first[:3], np.array([1, 2, 4]) / 7 * 4000).pvalue > 1e-3


@pytest.mark.parametrize("weighted", [False, True])
def test_a_loaded_reservoir_goes_on_as_the_first_one(weighted: bool) -> None:
    ids = torch.randperm(3000)
    weights = torch.rand(3000, dtype=torch.float64) if weighted else None

    def offer(reservoir: native.Reservoir, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return reservoir.offer(ids[part], ids[part] % 7, weights[part] if weighted else None)

    first, second = (native.Reservoir(64, 5, weighted) for _ in range(2))
    for start in range(0, 1500, 100):
        offer(first, slice(start, start + 100))
    offer(second, slice(0, 900))  # forgotten by the load
    second.load(*first.state())
    for start in range(1500, 3000, 100):
        one, two = (offer(r, slice(start, start + 100)) for r in (first, second))
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert all(torch.equal(a, b) for a, b in zip(first.state(), second.state(), strict=True))


def test_nothing_offered_and_refusals() -> None:
    reservoir = native.Reservoir(3, 0)
    empty = torch.zeros(0, dtype=torch.int64)
    assert reservoir.offer(empty)[0].shape == (0,) and len(reservoir) == 0 and reservoir.order().shape == (0,)
    weighted = native.Reservoir(3, 0, weighted=True)
    assert weighted.offer(empty, weights=empty.double())[1].shape == (0,)
    ids = torch.arange(4)
    with raises_sentence(InputError, "weights", "not weighted"):
        reservoir.offer(ids, weights=torch.ones(4, dtype=torch.float64))
    with raises_sentence(InputError, "weights", "pass weights"):
        weighted.offer(ids)
    for bad in (-1.0, float("nan"), float("inf")):
        with raises_sentence(InputError, "weights", "at least 0", "position 2"):
            weighted.offer(ids, weights=torch.tensor([1, 1, bad, 1], dtype=torch.float64))
    assert len(weighted) == 0
    with raises_sentence(InputError, "groups", "[4]", "[3]"):
        reservoir.offer(ids, ids[:3])
    with raises_sentence(InputError, "capacity", "got 0"):
        native.Reservoir(0, 0)
    with raises_sentence(InputError, "index", "every id once"):
        reservoir.load(torch.tensor([1, 1]), ids[:2], ids[:2])
    with raises_sentence(InputError, "index", "at most 3"):
        reservoir.load(ids, ids, ids)


def test_hash_keys(isa: str) -> None:
    for n in (0, 1, 15, 16, 17, 129):
        index = torch.arange(n) * 2**40 - 5
        assert torch.equal(native.hash_keys(-9, index), reservoir_keys(-9, index))
