"""What must hold for every recipe, with the kind of model it asks for, in every scenario it takes."""

import zlib

import pytest
import torch

from pyfast_mmcl.train import recipes, run_continual
from tests.check import assert_same_bits
from tests.continual.battery import BATCH, MUST_RUN, SCENARIOS, TASKS, Bystander, Killed, fitted, home, made, stream_for

METHODS = sorted(recipes())


@pytest.fixture(autouse=True)
def one_thread(seeded):
    """Rows this small are not worth a second thread."""
    torch.set_num_threads(1)


def test_foundation_is_registered():
    assert {"finetune", "joint", "er"} <= set(recipes())
    assert {name for name, entry in recipes().items() if entry.trains_on == "seen"} == {"joint"}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("method", METHODS)
def test_it_runs_or_refuses_with_a_sentence(method, scenario):
    run = fitted(method, scenario)
    if isinstance(run, str):
        assert scenario not in MUST_RUN.get(recipes()[method].model, ()), run
        assert run.endswith(".") and "\n" not in run and len(run) > 20
        return
    assert run.history.finished and all(0 <= x <= 1 for row in run.history.accuracy for x in row)
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert all(value == value for epoch in run.history.losses for value in epoch["terms"].values())


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(method):
    stream, first = stream_for(method, home(method)), fitted(method, home(method))
    settings = {"epochs": 1, "batch_size": BATCH, "device": "cpu", "progress": False}
    # Not the random state that ``fitted`` found: what surrounds a run has no say in it, and is left as it was.
    torch.manual_seed(20)
    around = torch.random.get_rng_state()
    again = run_continual(method, stream, **settings)
    assert torch.equal(torch.random.get_rng_state(), around)
    assert again.accuracy == first.history.accuracy and again.losses == first.history.losses
    other = made(method, stream, seed=1)
    other.fit(stream)
    values = [
        torch.cat([x.detach().flatten().float() for x in run.model.state_dict().values()]) for run in (first, other)
    ]
    assert values[0].shape == values[1].shape and not torch.equal(*values)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_twice_and_resumed_gives_the_same_bits(method, tmp_path):
    stream, whole = stream_for(method, home(method)), fitted(method, home(method))
    steps = whole.step
    # Somewhere in the second task, where there is something to lose, another place for every method; then at its end.
    first = steps // TASKS + zlib.crc32(method.encode()) % (steps - steps // TASKS)
    for i, (hook, step) in enumerate((("loss", first), ("after_task", steps))):
        run = made(method, stream, Bystander(hook, step), checkpoint_dir=tmp_path, checkpoint_every=2)
        with pytest.raises(Killed):
            run.fit(stream, resume=i > 0)
    resumed = made(method, stream, checkpoint_dir=tmp_path, checkpoint_every=2)
    resumed.fit(stream, resume=True)
    assert resumed.history.losses == whole.history.losses and resumed.history.accuracy == whole.history.accuracy
    ours, theirs = resumed.parts[-1].kept[-1], whole.parts[-1].kept[-1]
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert_same_bits(ours[name], theirs[name])
