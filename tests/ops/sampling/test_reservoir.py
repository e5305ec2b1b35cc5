"""The stream's reservoir: its contents are the merge of all that was offered, and its answers keep a memory right."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import Reservoir, merge_reservoir, reservoir_keys, weighted_keys
from tests.check import assert_same_bits, raises_sentence
from tests.ops.sampling.truth import assert_equal_chances, assert_frequencies, subset_probabilities


def rows_of(ids, grouped, weighted):
    """What goes with ids: a group and a weight that belong to the id."""
    return {
        "groups": ids.remainder(4) - 1 if grouped else None,
        "weights": ids.remainder(7).double() if weighted else None,
    }


def offer_and_write(reservoir, memory, ids, **properties):
    """Offer a batch and write the rows that enter, as a memory does."""
    offer = reservoir.offer(ids, **properties)
    assert bool((offer.rows.diff() > 0).all()), "rows ascend"
    assert offer.slots.unique().numel() == offer.slots.numel(), "no slot twice"
    memory.update(zip(offer.slots.tolist(), ids[offer.rows].tolist(), strict=True))
    assert [memory[slot] for slot in range(len(reservoir))] == reservoir.index.tolist()
    return offer


def expected(seed, ids, capacity, grouped, weighted):
    rows = rows_of(ids, grouped, weighted)
    keys = weighted_keys(seed, ids, rows["weights"]) if weighted else reservoir_keys(seed, ids)
    kept = merge_reservoir(keys, ids, capacity, groups=rows["groups"])
    return ids[kept], keys[kept]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@settings(max_examples=40)
@given(
    ids=st.lists(st.integers(-30, 90), min_size=1, max_size=120),
    capacity=st.integers(1, 30),
    cuts=st.lists(st.integers(0, 120), max_size=6),
    seed=st.integers(0, 2**64),
)
def test_contents_are_the_merge_of_all_offers(backend, grouped, weighted, ids, capacity, cuts, seed):
    reservoir, memory, ids = Reservoir(capacity, seed=seed, backend=backend), {}, torch.tensor(ids)
    for part in ids.tensor_split(sorted(cuts)):
        offer_and_write(reservoir, memory, part, **rows_of(part, grouped, weighted))
    index, keys = expected(seed, ids, capacity, grouped, weighted)
    order = reservoir.order()
    assert reservoir.index[order].tolist() == index.tolist()
    assert_same_bits(reservoir.keys[order], keys)
    if grouped:
        assert reservoir.groups[order].tolist() == (index.remainder(4) - 1).tolist()


def test_groups_row_by_row(backend):
    # Every row meets a full memory whose groups are uneven: one may grow while another shrinks.
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        groups = torch.randint(3, (25,), generator=generator) * torch.randint(2, (25,), generator=generator)
        reservoir, memory, ids = Reservoir(6, seed=seed, backend=backend), {}, torch.arange(25)
        for row in range(25):
            offer_and_write(reservoir, memory, ids[row : row + 1], groups=groups[row : row + 1])
        kept = merge_reservoir(reservoir_keys(seed, ids), ids, 6, groups=groups)
        assert reservoir.index[reservoir.order()].tolist() == kept.tolist()


def test_a_long_stream(backend):
    reservoir, memory, ids = Reservoir(500, seed=1, backend=backend), {}, torch.randperm(60_000)
    entered = 0
    for part in ids.split(1009):
        entered += len(offer_and_write(reservoir, memory, part).rows)
    assert reservoir.index[reservoir.order()].tolist() == expected(1, ids, 500, False, False)[0].tolist()
    # M·(1 + ln(N/M)) rows enter a row-by-row reservoir; batches let fewer in, never many more
    assert 500 <= entered < 1.15 * 500 * (1 + np.log(60_000 / 500))


def test_offering_again_changes_nothing(backend):
    ids = torch.arange(300)
    reservoir = Reservoir(50, backend=backend)
    reservoir.offer(ids, ids % 3)
    before = reservoir.index
    again = reservoir.offer(ids.flip(0), ids.flip(0) % 3)
    assert len(again.rows) == 0 and torch.equal(reservoir.index, before)
    doubled = Reservoir(50, backend=backend)
    assert len(doubled.offer(torch.cat([ids, ids]), torch.cat([ids, ids]) % 3).rows) == 50
    assert torch.equal(doubled.index[doubled.order()], reservoir.index[reservoir.order()])


def test_a_group_that_shrank_and_comes_again_is_not_biased_to_recent_rows(backend):
    # Group 0 fills the memory, loses three quarters of it to others, and then goes on arriving.
    parts = [(torch.arange(0, 40), 0), (torch.arange(100, 130), 1), (torch.arange(200, 260), 2)]
    parts += [(torch.arange(300, 304), 3), (torch.arange(40, 80), 0), (torch.arange(304, 310), 3)]
    counts, seeds = torch.zeros(400), 200
    for seed in range(seeds):
        reservoir = Reservoir(24, seed=seed, backend=backend)
        for ids, group in parts:
            reservoir.offer(ids, torch.full_like(ids, group))
        assert reservoir.groups.bincount().tolist() == [6, 6, 6, 6]
        counts[reservoir.index] += 1
    assert_equal_chances(counts[:80], seeds, 6)
    assert_equal_chances(counts[200:260], seeds, 6)
    assert_equal_chances(counts[300:310], seeds, 6)


def test_a_stream_of_weights_has_the_exact_chances(backend):
    weights, seeds = torch.tensor([1.0, 4.0, 0.5, 2.0]), 500
    exact = subset_probabilities(weights.tolist(), 2)
    counts = dict.fromkeys(exact, 0)
    for seed in range(seeds):
        reservoir = Reservoir(2, seed=seed, backend=backend)
        for row in range(0, 4, 2):
            reservoir.offer(torch.arange(row, row + 2), weights=weights[row : row + 2])
        counts[tuple(sorted(reservoir.index.tolist()))] += 1
    assert_frequencies(list(counts.values()), list(exact.values()))


def test_an_id_with_a_larger_weight_has_its_larger_key(backend):
    reservoir, ids = Reservoir(3, seed=2, backend=backend), torch.arange(6)
    reservoir.offer(ids, weights=torch.full((6,), 1.0))
    heavy = torch.tensor([int(i) for i in ids if int(i) not in reservoir.index.tolist()][:1])
    reservoir.offer(heavy, weights=torch.tensor([1e12]))
    reservoir.offer(heavy, weights=torch.tensor([1e-12]))
    assert int(reservoir.index[reservoir.order()[0]]) == int(heavy)
    assert_same_bits(reservoir.keys.max(), weighted_keys(2, heavy, torch.tensor([1e12]))[0])
    held = reservoir.index[reservoir.order()[-1:]]
    assert len(reservoir.offer(held, weights=torch.tensor([1e14])).rows) == 0
    assert reservoir.index[reservoir.order()].tolist()[:2] == [int(held), int(heavy)]


@pytest.mark.parametrize("grouped, weighted", [(False, False), (True, False), (False, True), (True, True)])
def test_interrupted_at_any_place_it_goes_on_alike(backend, grouped, weighted):
    parts = torch.randperm(600).split(97)
    through = Reservoir(40, seed=5, backend=backend)
    for cut in range(len(parts)):
        again = Reservoir(40, seed=0, backend=backend)
        again.load_state_dict(through.state_dict())
        assert_same_bits(again.index, through.index)
        a = again.offer(parts[cut], **rows_of(parts[cut], grouped, weighted))
        b = through.offer(parts[cut], **rows_of(parts[cut], grouped, weighted))
        assert torch.equal(a.rows, b.rows) and torch.equal(again.index, through.index)
        assert torch.equal(again.order(), through.order())


def test_a_state_passes_between_backends():
    pytest.importorskip("pyfast_mmcl._C")
    ids = torch.arange(500)
    slow, fast = Reservoir(30, backend="torch"), Reservoir(30, backend="native")
    slow.offer(ids, ids % 7)
    fast.load_state_dict(slow.state_dict())
    for reservoir in (slow, fast):
        reservoir.offer(ids + 500, ids % 9)
    assert torch.equal(slow.index[slow.order()], fast.index[fast.order()])


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 63, 65, 97, 129])
def test_awkward_sizes_and_kinds(backend, size):
    ids = np.arange(2 * size, dtype=np.int32)[::2]
    reservoir = Reservoir(16, backend=backend)
    offer = reservoir.offer(ids, groups=(ids % 3).astype(np.int16))
    assert isinstance(offer.rows, np.ndarray) and len(reservoir) == min(16, size) == len(offer.rows)
    assert sorted(offer.slots.tolist()) == list(range(len(reservoir)))
    same = Reservoir(16, backend=backend)
    same.offer(torch.from_numpy(ids.copy()), groups=torch.from_numpy(ids % 3))
    assert torch.equal(same.index[same.order()], reservoir.index[reservoir.order()])


def test_an_untouched_reservoir(backend):
    reservoir = Reservoir(4, seed=3, backend=backend)
    assert len(reservoir) == 0 and reservoir.order().shape == (0,) and reservoir.keys.shape == (0,)
    state = reservoir.state_dict()
    other = Reservoir(4, backend=backend)
    other.offer(torch.arange(9))
    other.load_state_dict(state)
    assert len(other) == 0 and other.seed == 3


def test_refusals(backend):
    reservoir, ids = Reservoir(4, backend=backend), torch.arange(3)
    reservoir.offer(ids, groups=ids)
    with pytest.raises(InputError, match="groups: earlier rows were offered with them"):
        reservoir.offer(ids)
    with pytest.raises(InputError, match="weights: earlier rows were offered without them"):
        reservoir.offer(ids, groups=ids, weights=torch.ones(3))
    with pytest.raises(InputError, match="entry 1"):
        Reservoir(4, backend=backend).offer(ids, weights=torch.tensor([1.0, -1.0, 2.0]))
    with pytest.raises(InputError, match="capacity 4, this reservoir of 5"):
        Reservoir(5, backend=backend).load_state_dict(reservoir.state_dict())
    with pytest.raises(InputError, match="one number per row"):
        reservoir.offer(ids, groups=ids[:2])
    with pytest.raises(InputError, match="missing"):
        reservoir.load_state_dict({"capacity": 4})


@pytest.mark.parametrize(
    "damage, words",
    [
        ({"index": torch.tensor([1, 1, 2])}, ["once", "3"]),
        ({"index": torch.arange(2)}, ["keys", "2", "3"]),
        ({name: torch.arange(5) for name in ("index", "keys", "group")}, ["at most 3", "5"]),
        ({"keys": torch.rand(3).double()}, ["keys", "int64", "float64"]),
        ({"index": torch.rand(3)}, ["index", "float32"]),
        ({"group": None}, ["group", "NoneType"]),
        ("seed", ["seed", "'?'"]),
        ("slots", ["index", "missing"]),
        ("groups", ["groups", "'?'"]),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(backend, damage, words):
    reservoir = Reservoir(3, seed=5, backend=backend)
    reservoir.offer(torch.arange(10))
    state, before = reservoir.state_dict(), reservoir.index
    if isinstance(damage, str):
        state[damage] = "?"
    else:
        state["slots"] = {**state["slots"], **damage}
    reservoir.offer(torch.arange(0))
    with raises_sentence(InputError, *words):
        reservoir.load_state_dict(state)
    assert reservoir.seed == 5 and torch.equal(reservoir.index, before)
