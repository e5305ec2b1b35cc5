"""MIR replays the candidates whose loss a step on the fresh rows would raise most."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import Output
from tests.check import assert_same_bits, raises_sentence
from tests.continual.replay.truth import Watch, fitted, flat, make, memory_part, small_stream


class Linear(nn.Module):
    def __init__(self, d=2, c=2, dtype=torch.float64):
        super().__init__()
        self.linear = nn.Linear(d, c, bias=False, dtype=dtype)
        nn.init.zeros_(self.linear.weight)

    def forward(self, batch):
        return Output(self.linear(batch.inputs["x"]))


def rows(x, y, start=0):
    n = len(y)
    index = torch.arange(start, start + n)
    return Batch({"x": x}, torch.as_tensor(y), torch.zeros(n, dtype=torch.int64), {"x": index >= 0}, index)


def learner_of(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(model=model.train(), accelerator=None, generator=generator, seed=0, batch_size=4)


def mir_part(capacity, **hyper):
    part = make(small_stream(), "mir", capacity=capacity, **hyper).parts[0]
    part.before_task(learner_of(Linear()), None)
    return part


def test_the_rows_that_the_step_contradicts_are_chosen():
    """Fresh rows say that e1 is class 0. Memory has e1 of class 1, which that hurts, and e2, which it leaves alone."""
    e1, e2 = torch.eye(2, dtype=torch.float64)
    part = mir_part(30, rows=6, candidates=30, virtual_lr=1.0)
    memory = rows(torch.stack([e1] * 6 + [e2] * 18 + [e1] * 6), [1] * 6 + [0, 1] * 9 + [0] * 6, start=100)
    part.memory_.add(memory)
    learner = learner_of(Linear())
    drawn = part.extend(learner, rows(torch.stack([e1] * 4), [0] * 4))
    assert drawn.fresh == 4 and set(drawn.index[4:].tolist()) == set(range(100, 106))
    # A step the other way round hurts the rows of class 0.
    drawn = part.extend(learner, rows(torch.stack([e1] * 4), [1] * 4))
    assert set(drawn.index[4:].tolist()) == set(range(124, 130))


def test_the_choice_is_that_of_the_definition():
    """A copy of the model takes the virtual step; the losses are compared row by row in float64."""
    compared = []

    def look(learner, batch, out, terms):
        memory = memory_part(learner).memory_
        if len(batch) == batch.fresh or len(memory) <= 4:
            return
        # The state from which this step drew: the same place in the run, the same candidates.
        generator = torch.Generator()
        generator.set_state(states.pop())
        candidates = memory.sample(12, generator)
        model = copy.deepcopy(learner.model).double().eval()

        def losses(model, batch):
            batch.inputs = {name: x.double() for name, x in batch.inputs.items()}
            scores = model(batch).scores
            return torch.stack([s.exp().sum().log() - s[y] for s, y in zip(scores, batch.target, strict=True)])

        before = losses(model, copy.copy(candidates)).detach()
        losses(model, batch.select(slice(0, batch.fresh))).mean().backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.5 * p.grad
        growth = losses(model, copy.copy(candidates)).detach() - before
        chosen = torch.isin(candidates.index, batch.index[batch.fresh :])
        assert int(chosen.sum()) == min(4, len(candidates))
        assert not chosen.all() and growth[chosen].min() > growth[~chosen].max() - 1e-6
        compared.append(1)

    states = []

    class Peek(Watch):
        def extend(self, learner, batch):
            states[:] = [learner.generator.get_state()]
            return batch

    stream = small_stream()
    base = make(stream, "mir", capacity=40, rows=4, candidates=12, virtual_lr=0.5)
    learner = make(stream, [Peek(lambda *a: None), *base.parts, Watch(look)], epochs=2)
    learner.parts[0].loss = lambda *a: None
    learner.fit(stream)
    assert len(compared) > 8


@pytest.mark.parametrize("scenario", ["cil", "til"])
def test_with_no_choice_it_is_er(scenario):
    stream = small_stream(scenario)
    er, mir = (fitted(stream, *how, capacity=20, epochs=2) for how in (("er",), ("mir",)))
    assert not torch.equal(flat(er), flat(mir))
    same = fitted(stream, "mir", capacity=20, rows=6, candidates=6, epochs=2)
    assert_same_bits(flat(same), flat(fitted(stream, "er", capacity=20, rows=6, epochs=2)))


def test_weights_that_all_stand_still_are_no_error():
    stream = small_stream()
    learner = make(stream, "mir", capacity=60, rows=5)
    learner.model.requires_grad_(False)
    learner.fit(stream)
    assert len(memory_part(learner).memory_) == 60


def test_arguments():
    with raises_sentence(InputError, "virtual_lr", "above 0"):
        make(small_stream(), "mir", virtual_lr=0)
    with raises_sentence(InputError, "candidates", "at least 1"):
        make(small_stream(), "mir", candidates=0)
