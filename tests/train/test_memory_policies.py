"""Every policy keeps what its definition says, whatever order, batches and repetitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import balanced_allocation, herding, merge_reservoir, reservoir_keys, weighted_keys
from pyfast_mmcl.train.memory import POLICIES, Balanced, Herding, Memory, Priority
from pyfast_mmcl.train.memory.fifo import entering
from tests.check import raises_sentence
from tests.train.memory_rows import assert_same_memory, fill, rows

INVARIANT = sorted(set(POLICIES) - {"ring", "herding"})


def hints(index):
    return {"weight": (index % 5).double(), "features": torch.stack([torch.sin(index * k) for k in (1.0, 2.0)], 1)}


def extras(index):
    return {"priority": (index * 7 % 11).float(), "kind": index % 2}


def filled(policy, index, batch_size, capacity=30):
    return fill(Memory(capacity, policy=policy, seed=3), index, batch_size, hints=hints, extras=extras)


@pytest.mark.parametrize("policy", INVARIANT)
def test_order_batches_and_repetition_do_not_matter(policy):
    whole = filled(policy, torch.arange(400), 400)
    again = torch.cat([torch.randperm(400), torch.arange(100)])
    for batch_size in (1, 17, 128):
        assert_same_memory(filled(policy, again, batch_size), whole)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_offering_what_is_held_changes_nothing(policy):
    memory = filled(policy, torch.randperm(200), 200)
    before = memory.all()
    batch = rows(memory.index.flip(0))
    batch.inputs["image"] += 1  # other values under the same ids
    memory.add(batch, extras(batch.index), hints=hints(batch.index))
    for name in before.inputs:
        assert torch.equal(before.inputs[name], memory.all().inputs[name])
    assert torch.equal(before.index, memory.index)


@pytest.mark.parametrize(
    ("policy", "group"),
    [("class_balanced", lambda i: i % 7), ("task_balanced", lambda i: i // 100)],
    ids=["class_balanced", "task_balanced"],
)
def test_balanced_is_its_definition(policy, group):
    # Classes arrive one after another, the worst case for shares that shrink.
    index = torch.arange(600)
    index = index[(index % 7).argsort(stable=True)]
    for offered in (index[:50], index[:173], index):
        memory = filled(policy, offered, 13, capacity=32)
        ids = offered.sort().values
        keys, groups = reservoir_keys(3, ids), group(ids)
        best = merge_reservoir(keys, ids, 32, groups=groups)
        assert set(memory.index.tolist()) == set(ids[best].tolist())
        counts, kept = groups.bincount(), group(memory.index).bincount(minlength=int(groups.max()) + 1)
        assert torch.equal(kept, balanced_allocation(counts, 32))
        full = kept[counts > kept]
        assert int(full.max() - full.min()) <= 1


def test_a_small_class_enters_whole_when_its_rows_come_one_by_one():
    # Best first: every row is worse than those of its class that are held, and still has a share to fill.
    memory = filled("class_balanced", torch.arange(0, 420, 7), 60, capacity=12)
    rare = torch.arange(1, 42, 7)
    rare = rare[reservoir_keys(3, rare).argsort(descending=True)]
    filled_one_by_one = fill(memory, rare, 1, hints=hints, extras=extras)
    assert set(rare.tolist()) <= set(filled_one_by_one.index.tolist()) and len(memory) == 12


def test_the_front_of_a_balanced_memory_is_a_smaller_one():
    offered = torch.randperm(500)
    large = filled("class_balanced", offered, 50, capacity=60).index
    for capacity in (1, 6, 7, 8, 33):
        assert torch.equal(filled("class_balanced", offered, 50, capacity=capacity).index, large[:capacity])


def test_inclusion_within_a_class_is_uniform_when_its_share_has_shrunk():
    # Class 0 comes first and is alone for a while: nothing may favour its early or its late rows.
    counts = torch.zeros(100)
    index = torch.cat([torch.arange(0, 700, 7), torch.arange(700)[torch.arange(700) % 7 < 3]])
    for seed in range(125):
        memory = fill(Memory(24, policy="class_balanced", seed=seed), index, 40)
        mine = memory.index[memory.index % 7 == 0]
        assert len(mine) == 8
        counts[mine // 7] += 1
    statistic = float(((counts - 10) ** 2 / 10).sum()) / (1 - 8 / 100)
    assert 1e-3 < chi2.sf(statistic, 99) < 1 - 1e-3


@pytest.mark.parametrize(
    "by", [("task", "kind"), lambda batch: (batch.task << 32) + batch.index % 2], ids=["names", "function"]
)
def test_groups_may_be_crossed(by):
    memory = fill(Memory(24, policy=Balanced(by)), torch.randperm(600), 37, extras=extras)
    sizes = torch.stack([memory.index // 100, memory.index % 2], 1).unique(dim=0, return_counts=True)[1]
    assert sizes.tolist() == [2] * 12


def test_ring_keeps_the_last_rows():
    memory = Memory(5, policy="ring")
    for batch in ([0, 1, 2], [3, 4, 5, 6], [4, 5], [7]):
        memory.add(rows(batch))
    assert memory.index.tolist() == [7, 6, 5, 4, 3]
    memory.add(rows([0, 8]))  # 0 was pushed out and comes back
    assert memory.index.tolist() == [8, 0, 7, 6, 5]


@settings(max_examples=150)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 6), st.integers(1, 40))
def test_first_in_first_out_row_by_row(offered, capacity, batch_size):
    queue, memory = [], Memory(capacity, policy="ring")
    for index in offered:
        if index not in queue:
            queue = [*queue, index][-capacity:]
    fill(memory, torch.tensor(offered, dtype=torch.int64), batch_size)
    assert memory.index.tolist() == queue[::-1]
    came = entering(np.zeros(0, dtype=np.int64), np.array(offered, dtype=np.int64), capacity)
    assert np.array(offered, dtype=np.int64)[came][-capacity:].tolist() == queue


def test_herding_keeps_the_front_of_every_order():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(700, 5, generator=generator)
    memory = Memory(40, policy="herding")
    for label in (2, 0, 5, 1):  # one class after another: shares shrink from 40 to 10
        index = torch.arange(label, 700, 7)
        memory.add(rows(index), hints={"features": features[index]})
        kept = memory.index[memory.index % 7 == label]
        order = herding(features[index], len(kept), normalize=True)
        assert torch.equal(kept, index[order])
    assert (memory.index % 7).bincount().tolist() == [10, 10, 10, 0, 0, 10]
    assert "features" not in memory.all().extras
    mean = features[0::7] / features[0::7].norm(dim=1, keepdim=True)
    front = memory.index[memory.index % 7 == 0]
    unit = features[front] / features[front].norm(dim=1, keepdim=True)
    assert (unit.mean(0) - mean.mean(0)).norm() < 0.5 * (mean[:10].mean(0) - mean.mean(0)).norm()


def test_herding_of_several_classes_at_once_and_of_repeated_ids():
    features = torch.randn(210, 4, generator=torch.Generator().manual_seed(2))
    together, apart = (Memory(30, policy=Herding(normalize=False)) for _ in range(2))
    index = torch.randperm(210)
    twice = torch.cat([index, index[:50]])
    together.add(rows(twice), hints={"features": features[twice]})
    for label in range(7):
        one = index[index % 7 == label]
        apart.add(rows(one), hints={"features": features[one]})
    assert_same_memory(together, apart)
    empty = Memory(3, policy="herding")
    empty.add(rows([]), hints={"features": torch.zeros(0, 4)})
    assert len(empty) == 0


def test_priority_keeps_the_largest_and_equal_ones_as_a_reservoir():
    memory = fill(Memory(40, policy="priority", seed=3), torch.randperm(220), 9, extras=extras)
    ids = torch.arange(220)
    priority = extras(ids)["priority"]
    order = sorted(ids.tolist(), key=lambda i: (float(priority[i]), int(reservoir_keys(3, ids)[i])), reverse=True)
    assert memory.index.tolist() == sorted(order[:40])
    worst = memory.index[:3]
    memory.update(worst, {"priority": torch.zeros(3)})
    memory.add(rows([500, 501, 502]), {"priority": torch.full((3,), 0.5), "kind": torch.zeros(3, dtype=torch.int64)})
    assert not set(worst.tolist()) & set(memory.index.tolist()) and {500, 501, 502} <= set(memory.index.tolist())


def test_weighted_keeps_the_largest_keys():
    index = torch.randperm(300)
    memory = fill(Memory(25, policy="weighted", seed=3), index, 11, hints=hints)
    ids = torch.arange(300)
    keys = weighted_keys(3, ids, hints(ids)["weight"])
    assert torch.equal(memory.index, ids[keys.argsort(descending=True)][:25])
    assert (memory.index % 5).min() > 0  # rows of weight 0 stay only while there is room


@pytest.mark.parametrize("policy", ["class_balanced", "task_balanced"])
def test_an_offer_that_failed_leaves_later_rows_their_chance(policy):
    # Only an offer that went through may settle that a group has all the rows it will ever have.
    step = {"class_balanced": (7, 1), "task_balanced": (1, 100)}[policy]
    many, few = (torch.arange(40) * step[0] + group * step[1] for group in (0, 1))
    few = few[reservoir_keys(3, few).argsort(descending=True)]
    memory, sound = (Memory(12, policy=policy, seed=3, codecs={"image": "int8"}) for _ in range(2))
    for m in (memory, sound):
        fill(m, torch.cat([many[:10], few[:2]]), 12)
    broken = rows(few)
    broken.inputs["image"] *= float("nan")
    with raises_sentence(InputError, "finite"):
        memory.add(broken)
    assert_same_memory(fill(memory, few[2:9], 1), fill(sound, few[2:9], 1))


class Hardest(Balanced):
    """The rows of the largest loss of every class."""

    ranked_by = "loss"

    def rank(self, seed, batch):
        return batch.extras["loss"].long()


def test_groups_follow_their_rows_when_they_are_ranked_anew():
    memory = fill(Memory(6, policy=Hardest(lambda b: b.index % 2)), torch.arange(20), 20, extras=loss_of)
    assert memory.index.tolist() == [18, 19, 16, 17, 14, 15]
    memory.update(memory.index, {"loss": torch.tensor([0.0, 1, 2, 3, 4, 5])})
    assert memory.index.tolist() == [14, 15, 16, 17, 18, 19]
    other = Memory(6, policy=Hardest(lambda b: b.index % 2))
    other.load_state_dict(memory.state_dict())
    fill(memory, torch.arange(40, 43), 3, extras=loss_of)
    assert sorted(memory.index.tolist()) == [14, 15, 17, 40, 41, 42]


def loss_of(index):
    return {"loss": index.float()}


class Own:
    """A policy of one's own that ranks by a hint, and may break its contract."""

    def __init__(self, kept):
        self.kept = kept

    def rank(self, seed, batch):
        return batch.extras["loss"].long()

    def may_enter(self, keys, kept):
        return torch.ones_like(keys, dtype=torch.bool)

    def keep(self, candidates, capacity):
        return candidates.keys.argsort(descending=True)[:capacity] if self.kept is None else torch.tensor(self.kept)


def test_a_policy_of_ones_own_sees_hints_and_keeps_its_contract():
    memory = fill(Memory(3, policy=Own(None)), torch.arange(9), 4, hints=loss_of)
    assert memory.index.tolist() == [8, 7, 6] and not memory.all().extras
    for wrong in ([0, 1, 2, 3], [0, 0], [-1], [9]):
        with raises_sentence(InputError, "at most 3 different positions below 9"):
            fill(Memory(3, policy=Own(wrong)), torch.arange(9), 9, hints=loss_of)


WRONG = [
    ("herding", {}, {}, ("features", "hints")),
    ("herding", {}, {"features": torch.zeros(3)}, ("features", "[B, D]")),
    ("herding", {}, {"features": torch.zeros(3, 2, dtype=torch.int64)}, ("floating", "int64")),
    ("priority", {}, {}, ("priority", "extras")),
    ("priority", {"priority": torch.tensor([1.0, float("nan"), 1.0])}, {}, ("finite", "priority")),
    ("weighted", {}, {"weight": -torch.ones(3)}, ("weight", "at least 0")),
    ("group_balanced", {}, {"group": torch.ones(3)}, ("group", "integer")),
    ("reservoir", {"logits": torch.ones(2, 3)}, {}, ("logits", "3 rows")),
    ("reservoir", {}, {"logits": [1, 2, 3]}, ("logits", "list")),
]


@pytest.mark.parametrize(("policy", "given", "seen", "words"), WRONG)
def test_what_a_policy_misses_is_said(policy, given, seen, words):
    memory = Memory(5, policy=Balanced("group") if policy == "group_balanced" else policy)
    with raises_sentence(InputError, *words):
        memory.add(rows(range(3)), given, hints=seen)
    assert len(memory) == 0


def test_sequences_of_targets_have_no_class():
    batch = rows(range(4))
    batch.target = torch.zeros(4, 6, dtype=torch.int64)
    with raises_sentence(InputError, "class_balanced", "target"):
        Memory(5, policy="class_balanced").add(batch)
    memory = Memory(3)
    memory.add(batch)
    assert memory.all().target.shape == (3, 6)


def test_policies_take_their_own_settings():
    assert Priority(beta=None).beta is None and Herding(normalize=False).normalize is False
    assert {name: POLICIES[name]().name for name in POLICIES} == {name: name for name in POLICIES}
