"""Contents depend on (seed, the set of ids) alone: not on batch size, order, repetition or interruption."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.ops.sampling import reservoir_keys
from pyfast_mmcl.train import Memory
from tests.train.memory_rows import assert_same_memory, fill, rows


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_same_contents_for_every_batch_size_order_and_repetition(batch_size):
    whole = fill(Memory(50, seed=3), torch.arange(600), 600)
    shuffled = torch.randperm(600)
    again = torch.cat([shuffled, shuffled[:200], torch.arange(300)])
    assert_same_memory(fill(Memory(50, seed=3), again, batch_size), whole)
    best = reservoir_keys(3, torch.arange(600)).argsort(descending=True)[:50]
    assert torch.equal(whole.all().index, best)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=80), st.integers(1, 30), st.integers(1, 9))
def test_memory_equals_its_definition(ids, capacity, batch_size):
    memory = fill(Memory(capacity, seed=1), torch.tensor(ids), batch_size)
    distinct = torch.tensor(sorted(set(ids)))
    best = distinct[reservoir_keys(1, distinct).argsort(descending=True)][:capacity]
    assert torch.equal(memory.all().index, best)
    expected = rows(best)
    assert torch.equal(memory.all().inputs["image"], expected.inputs["image"])
    assert torch.equal(memory.all().present["text"], expected.present["text"])


def test_inclusion_is_uniform():
    # 1,000 seeds keep 10 of 60 rows: every row should be kept equally often.
    counts = torch.zeros(60)
    for seed in range(1000):
        counts[fill(Memory(10, seed=seed), torch.arange(60), 60).all().index] += 1
    # Drawing without replacement has less variance than the chi-square test assumes: scale it back.
    statistic = chisquare(counts.numpy()).statistic / (1 - 10 / 60)
    assert counts.sum() == 10_000
    from scipy.stats import chi2

    assert 1e-3 < chi2.sf(statistic, 59) < 1 - 1e-3


def test_interrupted_filling_continues_as_if_nothing_had_happened():
    index = torch.randperm(500)
    first = fill(Memory(64, seed=5), index[:260], 10)
    second = Memory(64, seed=0)
    second.load_state_dict(first.state_dict())
    assert_same_memory(fill(second, index[260:], 33), fill(Memory(64, seed=5), index, 500))
    empty = Memory(64)
    empty.load_state_dict(Memory(64, seed=9).state_dict())
    assert len(empty) == 0 and empty.seed == 9


def test_sampling_is_without_replacement_and_uniform():
    memory = fill(Memory(20, seed=2), torch.arange(100), 10)
    counts = torch.zeros(100)
    for seed in range(1000):
        drawn = memory.sample(5, torch.Generator().manual_seed(seed))
        assert drawn.index.unique().numel() == 5 and drawn.fresh == 0
        counts[drawn.index] += 1
    kept = counts[memory.all().index]
    assert counts.sum() == kept.sum() == 5_000 and chisquare(kept.numpy()).pvalue > 1e-3
    assert len(memory.sample(99)) == 20


def test_draws_depend_on_contents_not_on_their_history():
    a, b = fill(Memory(30, seed=2), torch.arange(200), 200), fill(Memory(30, seed=2), torch.randperm(200), 3)
    draw = [memory.sample(8, torch.Generator().manual_seed(0)).index for memory in (a, b)]
    assert torch.equal(*draw)


def test_modalities_may_come_and_go():
    memory = Memory(8, seed=0)
    memory.add(rows(range(3), ("image",)))
    memory.add(rows(range(3, 5), ("text",)))
    memory.add(rows(range(5, 40), ("image", "text")))
    kept = memory.all()
    for i, row in enumerate(kept.index.tolist()):
        image = row >= 5 or (row < 3 and row % 3 != 0)
        text = row >= 3 and row % 3 != 0
        assert (bool(kept.present["image"][i]), bool(kept.present["text"][i])) == (image, text)
        assert kept.inputs["image"][i].eq(row if image else 0).all()


def test_a_row_without_a_modality_leaves_nothing_of_the_row_before():
    full, bare = sorted((1, 2), key=lambda row: int(reservoir_keys(0, torch.tensor([row]))))
    memory = Memory(1, seed=0)
    memory.add(rows([full], ("image", "text")), {"logits": torch.ones(1, 2)})
    assert memory.all().present["text"].tolist() == [True]
    only_image = rows([bare], ("text", "image"))
    del only_image.inputs["text"], only_image.present["text"]
    memory.add(only_image)
    kept = memory.all()
    assert kept.index.tolist() == [bare] and kept.present["text"].tolist() == [False]
    assert kept.inputs["text"].eq(0).all() and kept.extras["logits"].eq(0).all() and kept.present["image"].all()


def test_extras_stay_with_their_rows():
    memory = Memory(10, seed=1)
    for start in range(0, 100, 10):
        batch = rows(range(start, start + 10))
        memory.add(batch, {"logits": batch.index[:, None].float() * 2})
    kept = memory.sample(4, torch.Generator().manual_seed(0))
    assert torch.equal(kept.extras["logits"][:, 0], kept.index * 2.0)


def test_bytes_are_those_of_the_rows():
    memory = fill(Memory(16, seed=1), torch.arange(100), 100)
    # image 4 floats, text 2 ids, two presence flags, target, task, index and key.
    assert memory.nbytes == 16 * (16 + 16 + 2 + 4 * 8)


class Oldest:
    """A policy of somebody else: keep the smallest ids of each task in turn."""

    def rank(self, seed, batch):
        return -batch.index

    def may_enter(self, keys, kept):
        return torch.ones_like(keys, dtype=torch.bool)

    def keep(self, candidates, capacity):
        rank_in_task = (candidates.task[:, None] == candidates.task) & (candidates.keys[:, None] < candidates.keys)
        return (rank_in_task.sum(1) * 1000 + candidates.task).argsort()[:capacity]


def test_another_policy_sees_target_task_and_presence():
    memory = fill(Memory(6, policy=Oldest()), torch.randperm(300), 17)
    assert sorted(memory.all().index.tolist()) == [0, 1, 100, 101, 200, 201]


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="memory capacity"):
        Memory(0)
    with pytest.raises(UnknownNameError, match="reservoir"):
        Memory(3, policy="reservior")
    with pytest.raises(InputError, match="memory policy: expected a name or an object"):
        Memory(3, policy=3)
    with pytest.raises(InputError, match="memory codecs: expected"):
        Memory(3, codecs="int8")
    with pytest.raises(InputError, match="empty"):
        Memory(3).all()
    with pytest.raises(InputError, match="rows to draw"):
        fill(Memory(3), torch.arange(3), 3).sample(0)
    memory = fill(Memory(3), torch.arange(3), 3)
    bad = rows([7, 8, 9, 10, 11, 12])
    bad.inputs["image"] = bad.inputs["image"].double()
    with pytest.raises(InputError, match="same shape and dtype"):
        memory.add(bad)
    with pytest.raises(InputError, match="capacity"):
        Memory(4).load_state_dict(memory.state_dict())
