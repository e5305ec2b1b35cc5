"""What must hold for every recipe, with the kind of model it asks for: rows answered one by one, seeds obeyed,
memories within budget."""

import pytest
import torch

from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import Learner, default_model, recipes
from tests.check import assert_same_bits

SCENARIOS = ("cil", "dil", "til")


@pytest.fixture(scope="module")
def streams():
    return {name: digits_stream(name, 2, missing={"text": 0.2}) for name in SCENARIOS}


def fitted(stream, method, seed=0):
    learner = Learner(default_model(stream, method), method, epochs=1, seed=seed, device="cpu", progress=False)
    learner.fit(stream)
    return learner


def test_foundation_is_registered():
    assert {"finetune", "joint", "er"} <= set(recipes())
    assert {name for name, entry in recipes().items() if entry.trains_on == "seen"} == {"joint"}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("method", sorted(recipes()))
def test_the_answer_for_a_row_does_not_depend_on_its_batch(streams, method, scenario):
    stream = streams[scenario]
    learner = fitted(stream, method)
    rows = stream.loader(0, "test", batch_size=48)[0]
    whole = learner.predict(rows)
    order = torch.randperm(len(rows))
    torch.testing.assert_close(learner.predict(rows.select(order)), whole[order])
    for start, stop in ((0, 1), (1, 8), (8, 48)):
        torch.testing.assert_close(learner.predict(rows.select(slice(start, stop))), whole[start:stop])
    others = stream.loader(1, "test", batch_size=47)[0]
    mixed = torch.cat([learner.predict(rows.select(slice(0, 1))), learner.predict(others)])
    torch.testing.assert_close(mixed[:1], whole[:1])


@pytest.mark.parametrize("method", sorted(recipes()))
def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(streams, method):
    runs = [fitted(streams["cil"], method, seed) for seed in (0, 0, 1)]
    values = [torch.cat([p.detach().flatten() for p in run.model.parameters()]) for run in runs]
    assert_same_bits(values[0], values[1])
    assert runs[0].history.accuracy == runs[1].history.accuracy and not torch.equal(values[0], values[2])


@pytest.mark.parametrize("method", sorted(recipes()))
def test_test_rows_and_hidden_task_ids_reach_no_part(streams, method):
    """A part placed before the method sees training rows only, and at test no task id where the scenario hides it."""
    from pyfast_mmcl.train import Part

    stream, asked = streams["cil"], []
    test_rows = torch.cat([stream.rows(t.id, "test") for t in stream.tasks])

    class Watch(Part):
        def loss(self, learner, batch, out):
            assert not torch.isin(batch.index, test_rows).any()
            assert bool((batch.task[: batch.fresh] <= learner.task.id).all())

        def after_task(self, learner, task, loader):
            assert not any(torch.isin(batch.index, test_rows).any() for batch in loader)

        def predict(self, learner, batch, out):
            assert batch.task.eq(-1).all()
            asked.append(len(batch))

    learner = Learner(default_model(stream, method), method, epochs=1, device="cpu", progress=False)
    # The first part that answers is the last that is asked.
    learner.parts.insert(0, Watch())
    learner.fit(stream)
    assert sum(asked) == stream.n_tasks * len(test_rows)


@pytest.mark.parametrize("method", sorted(recipes()))
def test_memories_keep_their_budget(streams, method):
    learner = fitted(streams["cil"], method)
    for part in learner.parts:
        if hasattr(part, "memory_"):
            assert len(part.memory_) <= part.memory_.capacity
