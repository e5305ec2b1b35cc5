"""The shared parts are their formulas."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import Output
from pyfast_mmcl.train.parts import CrossEntropy, Replay, memory_rows


def batch(rows=6, fresh=4, start=0):
    index = torch.arange(start, start + rows)
    return Batch({"x": index[:, None].float()}, index % 3, index * 0, {"x": index >= 0}, index, fresh)


LEARNER = SimpleNamespace(generator=torch.Generator().manual_seed(0), seed=4)


@pytest.mark.parametrize(("rows", "chosen"), [("all", slice(0, 6)), ("fresh", slice(0, 4)), ("memory", slice(4, 6))])
def test_cross_entropy_of_the_chosen_rows(rows, chosen):
    scores = torch.randn(6, 3)
    term = CrossEntropy(rows, weight=0.5).loss(LEARNER, batch(), Output(scores))
    torch.testing.assert_close(term, 0.5 * cross_entropy(scores[chosen], batch().target[chosen]))


def test_no_rows_no_term():
    assert CrossEntropy("memory").loss(LEARNER, batch(6, 6), Output(torch.randn(6, 3))) is None


def test_generated_answers_count_every_position():
    rows, scores = batch(), torch.randn(6, 2, 3)
    rows.target = torch.stack([rows.target, rows.target.flip(0)], 1)
    term = CrossEntropy().loss(LEARNER, rows, Output(scores))
    expected = torch.stack([cross_entropy(scores[:, s], rows.target[:, s]) for s in range(2)]).mean()
    torch.testing.assert_close(term, expected)


def test_labels_beyond_the_head_are_named():
    with pytest.raises(InputError, match="scores 2 classes and the data has class 2"):
        CrossEntropy().loss(LEARNER, batch(), Output(torch.randn(6, 2)))


def test_names_tell_the_terms_apart():
    names = [part.name for part in (CrossEntropy(), CrossEntropy("fresh"), CrossEntropy("memory"), Replay(3))]
    assert names == ["cross_entropy", "cross_entropy_fresh", "cross_entropy_memory", "replay"]


def test_replay_adds_stored_rows_behind_the_fresh_ones_and_stores_only_those():
    part = Replay(10)
    part.before_task(LEARNER, None)
    first = part.extend(LEARNER, batch(6, 6))
    assert len(first) == 6 and part.memory_.seed == 4
    part.after_step(LEARNER, first, None)
    second = part.extend(LEARNER, batch(6, 6, start=100))
    assert second.fresh == 6 and len(second) == 12 and bool((second.index[6:] < 6).all())
    part.after_step(LEARNER, second, None)
    assert len(part.memory_) == 10 and part.memory_.all().index.unique().numel() == 10


def test_replay_takes_its_state_back():
    part, other = Replay(10), Replay(10)
    part.memory_.add(batch(6, 6))
    other.load_state_dict(part.state_dict())
    assert torch.equal(other.memory_.all().index, part.memory_.all().index)


def test_draws_are_equally_large_and_lie_behind_each_other():
    part = Replay(10, rows=3, draws=2)
    part.memory_.add(batch(6, 6))
    both = part.extend(LEARNER, batch(4, 4, start=100))
    assert (len(both), both.fresh) == (10, 4)
    assert [memory_rows(both, i, 2) for i in (0, 1)] == [slice(4, 7), slice(7, 10)]
    assert memory_rows(both) == slice(4, 10)
    assert all(both.index[memory_rows(both, i, 2)].unique().numel() == 3 for i in (0, 1))
    scores = torch.randn(10, 3)
    term = CrossEntropy("memory", draw=1, draws=2).loss(LEARNER, both, Output(scores))
    torch.testing.assert_close(term, cross_entropy(scores[7:], both.target[7:]))


def test_without_draws_the_memory_is_only_filled():
    part = Replay(10, draws=0)
    part.after_step(LEARNER, batch(6, 6), None)
    assert len(part.memory_) == 6 and len(part.extend(LEARNER, batch(4, 4, start=100))) == 4


def test_extras_of_a_part_lie_beside_its_rows():
    class Kept(Replay):
        def extras(self, learner, batch, out):
            return {"twice": 2 * batch.index[: batch.fresh]}

    part = Kept(10)
    part.after_step(LEARNER, batch(6, 4), None)
    both = part.extend(LEARNER, batch(4, 4, start=100))
    assert torch.equal(both.extras["twice"], 2 * both.index[4:])
