"""What a memory gives: uniform and prioritised draws, rows by place, extras rewritten; and sources that are none."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import chisquare

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.train.memory import Memory, Priority, ReplaySource
from pyfast_mmcl.train.memory.draws import distinct
from pyfast_mmcl.train.parts import Replay
from tests.check import raises_sentence
from tests.train.memory_rows import assert_same_rows, fill, rows


def generator(seed):
    return torch.Generator().manual_seed(seed)


def priorities(index):
    return {"priority": (index % 4).float()}


@pytest.mark.parametrize("length", [50, 5000])
def test_places_are_different_and_uniform(length):
    counts = torch.zeros(50)
    for seed in range(600):
        places = distinct(length, 25, generator(seed))
        assert len(set(places.tolist())) == 25 and 0 <= places.min() <= places.max() < length
        counts.index_add_(0, torch.from_numpy(places * 50 // length), torch.ones(25))
    assert chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("length", "n"), [(0, 3), (1, 1), (7, 99), (4097, 1024), (5000, 5000), (100_000, 3)])
def test_as_many_places_as_there_are(length, n):
    places = distinct(length, n, generator(0))
    assert len(places) == len(set(places.tolist())) == min(n, length)


def test_the_first_drawn_is_uniform_too():
    # The order of a draw is random as well: a part that takes the first rows of one gets a fair sample.
    counts = torch.zeros(10)
    for seed in range(3000):
        counts[int(distinct(5000, 40, generator(seed))[0]) // 500] += 1
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_draws_by_priority_are_in_proportion_to_it():
    memory = fill(Memory(12), torch.arange(12), 5, extras=priorities)
    counts = torch.zeros(12)
    for seed in range(500):
        drawn = memory.sample(20, generator(seed), by="priority")
        assert "weight" not in drawn.extras and drawn.extras["priority"].gt(0).all()
        counts.index_add_(0, drawn.index, torch.ones(20))
    drawn = counts > 0
    assert drawn.tolist() == (torch.arange(12) % 4 > 0).tolist()
    expected = (torch.arange(12) % 4)[drawn].double()
    assert chisquare(counts[drawn].numpy(), (expected / expected.sum() * 10_000).numpy()).pvalue > 1e-3


def test_importance_weights():
    memory = fill(Memory(12, policy="priority"), torch.arange(12), 5, extras=priorities)
    drawn = memory.sample(64, generator(0))
    torch.testing.assert_close(drawn.extras["weight"], drawn.extras["priority"] ** -0.4)  # the smallest is 1
    other = memory.sample(64, generator(0), beta=1.0)
    torch.testing.assert_close(other.extras["weight"], 1 / other.extras["priority"])
    assert torch.equal(drawn.index, other.index)
    plain = fill(Memory(12, policy=Priority(beta=None)), torch.arange(12), 5, extras=priorities)
    assert "weight" not in plain.sample(3, generator(0)).extras
    assert memory.sample(99, generator(0), by="uniform").index.unique().numel() == 12


def test_draws_follow_rewritten_priorities():
    memory = fill(Memory(40, policy="priority"), torch.arange(200), 10, extras=priorities)
    memory.sample(5, generator(0))  # the tree stands
    ids = memory.index
    assert memory.update(ids, {"priority": torch.zeros(40)}).all()
    assert memory.update(ids[:2].repeat(2), {"priority": torch.tensor([5.0, 5.0, 0.0, 1.0])}).all()
    assert memory.sample(50, generator(1)).index.unique().tolist() == [int(ids[1])]
    other = Memory(40, policy="priority")
    other.load_state_dict(memory.state_dict())
    assert_same_rows(other.sample(9, generator(2)), memory.sample(9, generator(2)))


@pytest.mark.parametrize("by", ["uniform", "priority"])
def test_draws_depend_on_contents_not_on_their_history(by):
    direct = fill(Memory(30, seed=2), torch.arange(300), 300, extras=priorities)
    slow = fill(Memory(30, seed=2), torch.randperm(300), 7, extras=priorities)
    slow.sample(3, generator(8), by=by)
    slow.update(slow.index[:4], {"priority": torch.full((4,), 9.0)})
    slow.update(slow.index, {"priority": (slow.index % 4).float()})
    resumed = Memory(30, seed=0)
    resumed.load_state_dict(slow.state_dict())
    how = {"by": by, "beta": 0.5 if by == "priority" else None}
    for other in (slow, resumed):
        assert_same_rows(other.sample(8, generator(3), **how), direct.sample(8, generator(3), **how))


def test_drawn_rows_are_copies():
    memory = fill(Memory(5), torch.arange(5), 5)
    before = memory.all()
    for drawn in (memory.sample(5), memory.all(), memory.select(torch.arange(5))):
        for column in (*drawn.inputs.values(), drawn.target, drawn.index):
            column.zero_()
    assert_same_rows(memory.all(), before)


def test_rows_by_place():
    memory = fill(Memory(9), torch.arange(100), 10)
    assert torch.equal(memory.select(torch.tensor([3, 0, 3])).index, memory.index[[3, 0, 3]])
    with raises_sentence(InputError, "places", "8"):
        memory.select(torch.tensor([9]))


def test_extras_are_rewritten_by_id():
    memory = fill(Memory(9), torch.arange(30), 10, extras=lambda i: {"logits": i[:, None].float()})
    ids = torch.cat([memory.index[:3], torch.tensor([999])])
    held = memory.update(ids, {"logits": torch.arange(4.0)[:, None]})
    assert held.tolist() == [True, True, True, False]
    assert memory.all().extras["logits"][:, 0].tolist() == [0.0, 1.0, 2.0, *memory.index[3:].tolist()]
    with pytest.raises(UnknownNameError, match="logits"):
        memory.update(ids, {"logit": torch.zeros(4, 1)})
    with raises_sentence(InputError, "logits", "4 rows"):
        memory.update(ids, {"logits": torch.zeros(3, 1)})
    with raises_sentence(InputError, "logits", "float64"):
        memory.update(ids, {"logits": torch.zeros(4, 1).double()})


def test_what_cannot_be_drawn():
    memory = Memory(9)
    for draw in (lambda: memory.sample(3), lambda: memory.sample(3, by="priority"), memory.all):
        with raises_sentence(InputError, "empty"):
            draw()
    fill(
        memory,
        torch.arange(30),
        10,
        extras=lambda i: {"bad": -i.float() - 1, "wide": torch.zeros(len(i), 2), "zero": i * 0.0},
    )
    for name, word in [("bad", "priority"), ("wide", "one floating number"), ("zero", "above 0")]:
        with raises_sentence(InputError, word):
            memory.sample(3, by=name)
    with pytest.raises(UnknownNameError, match="stored extra"):
        memory.sample(3, by="loss")


class Dreams:
    """A generator of rows in the place of a memory."""

    def __len__(self):
        return 100

    def sample(self, n, generator=None):
        drawn = rows(torch.randint(10**6, (n,), generator=generator))
        drawn.fresh = 0
        return drawn


def test_a_generator_fits_where_a_memory_does():
    assert isinstance(Memory(3), ReplaySource) and isinstance(Dreams(), ReplaySource)
    assert not isinstance(object(), ReplaySource)
    part = Replay(source=Dreams())
    learner = SimpleNamespace(generator=generator(0), seed=0)
    extended = part.extend(learner, rows(range(4)))
    assert len(extended) == 8 and extended.fresh == 4


def test_gradients_do_not_follow_rows_into_a_memory():
    batch = rows(range(6))
    batch.inputs["image"].requires_grad_(True)
    memory = Memory(3)
    memory.add(batch, {"logits": batch.inputs["image"].sum((1, 2)) * 2})
    kept = memory.all()
    assert not kept.inputs["image"].requires_grad and not kept.extras["logits"].requires_grad


def test_logits_of_a_head_that_grows():
    memory = fill(Memory(9), torch.arange(30), 10, extras=lambda i: {"logits": i[:, None].float()})
    before = memory.all()
    memory.widen("logits", 3)
    assert torch.equal(memory.all().extras["logits"], torch.nn.functional.pad(before.extras["logits"], (0, 2)))
    assert torch.equal(memory.index, before.index)
    batch = rows(range(30, 60))
    memory.add(batch, {"logits": torch.ones(30, 3)})
    with raises_sentence(InputError, "logits", "same shape"):
        memory.add(batch, {"logits": torch.ones(30, 1)})
    with raises_sentence(InputError, "logits", "not 2"):
        memory.widen("logits", 2)


def test_draws_after_a_resume_are_those_of_the_stored_priorities():
    codecs = {"priority": "fp16"}
    memory = fill(Memory(50, policy="priority", codecs=codecs), torch.arange(50), 50, extras=priorities)
    memory.sample(3, generator(0))
    memory.update(memory.index, {"priority": torch.rand(50) + 0.1})
    resumed = Memory(50, policy="priority", codecs=codecs)
    resumed.load_state_dict(memory.state_dict())
    assert_same_rows(memory.sample(500, generator(1)), resumed.sample(500, generator(1)))


@pytest.mark.parametrize("wrong", [torch.ones(9, dtype=torch.bool), torch.ones(9), torch.ones(9, 1).long(), [1]])
def test_places_and_ids_are_integers(wrong):
    memory = fill(Memory(9), torch.arange(9), 9, extras=priorities)
    with raises_sentence(InputError, "integers [B]"):
        memory.select(wrong)
    with raises_sentence(InputError, "integers [B]"):
        memory.update(wrong, {"priority": torch.ones(9)})


def test_a_beta_without_priorities_is_refused():
    memory = fill(Memory(9), torch.arange(30), 10)
    with raises_sentence(InputError, "beta=0.4", "by="):
        memory.sample(3, beta=0.4)


def test_a_codec_of_a_column_that_does_not_come_is_told():
    with pytest.warns(UserWarning, match="no 'imag'.*misspelt"):
        fill(Memory(9, codecs={"imag": "uint8"}), torch.arange(30), 10)
