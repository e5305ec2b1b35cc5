"""Replay from something else than a memory: what is asked of a source, and that a run with one resumes."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train import Learner, Memory, default_model
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from tests.check import assert_same_bits, raises_sentence
from tests.continual.regularization.truth import small_stream
from tests.continual.replay.truth import Cut, Killed, flat


class Means:
    """A generator: the mean row of every class so far, with noise. It learns when a task ends."""

    def __init__(self):
        self.rows = {}

    def __len__(self):
        return len(self.rows)

    def sample(self, n, generator=None):
        drawn = torch.randint(len(self.rows), (n,), generator=generator)
        labels = torch.tensor(sorted(map(int, self.rows)))[drawn]
        inputs = torch.stack([self.rows[str(int(c))] for c in labels])
        inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=generator)
        present = torch.ones(n, dtype=torch.bool)
        return Batch({"a": inputs}, labels, torch.full((n,), -1), {"a": present}, torch.full((n,), -1), 0)

    def learn(self, learner, task, loader):
        batches = list(loader)
        x, y = torch.cat([b.inputs["a"] for b in batches]), torch.cat([b.target for b in batches])
        self.rows |= {str(int(c)): x[y == c].mean(0) for c in y.unique()}

    def state_dict(self):
        return {"rows": dict(self.rows)}

    def load_state_dict(self, state):
        self.rows = dict(state["rows"])


def make(source, *parts, **settings):
    stream = small_stream()
    method = [*([Replay(source=source)] if source is not None else []), CrossEntropy(), *parts]
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.03, "device": "cpu", "progress": False, **settings}
    return Learner(default_model(stream, width=8), method, **settings), stream


def test_a_generator_replays_through_a_whole_run():
    learner, stream = make(Means(), epochs=20)
    history = learner.fit(stream)
    assert len(learner.parts[0].source_) == 6 and not hasattr(learner.parts[0], "memory_")
    assert history.kept_bytes[-1] == 6 * 6 * 4
    plain, _ = make(Silent(), epochs=20)
    assert sum(history.accuracy[-1][:2]) > sum(plain.fit(stream).accuracy[-1][:2]) + 0.2


class Silent:
    """A source that never has a row, and nothing else."""

    def __len__(self):
        return 0

    def sample(self, n, generator=None):
        raise AssertionError("nothing is drawn from an empty source")


def test_a_source_without_further_methods_is_asked_for_nothing_else():
    learner, stream = make(Silent())
    learner.fit(stream)
    reference, _ = make(None)
    reference.fit(stream)
    assert_same_bits(flat(learner), flat(reference))
    assert learner.parts[0].state_dict() == {}


@pytest.mark.parametrize(("hook", "step"), [("edit_grads", 12), ("after_task", 13)])
def test_a_run_with_a_generator_resumes_to_the_same_bits(tmp_path, hook, step):
    whole, stream = make(Means(), Cut())
    whole.fit(stream)
    cut, _ = make(Means(), Cut(hook, step), checkpoint_dir=tmp_path, checkpoint_every=1)
    with pytest.raises(Killed):
        cut.fit(stream)
    resumed, _ = make(Means(), Cut(), checkpoint_dir=tmp_path, checkpoint_every=1)
    resumed.fit(stream, resume=True)
    assert_same_bits(flat(resumed), flat(whole))
    assert resumed.history.accuracy == whole.history.accuracy


def test_a_memory_of_ones_own_is_filled_and_kept():
    memory = Memory(max_bytes=700, policy="ring", seed=4)
    learner, stream = make(memory)
    learner.fit(stream)
    assert learner.parts[0].memory_ is memory and 0 < memory.nbytes <= 700 and memory.seed == 4


def test_what_is_no_source_is_refused():
    with raises_sentence(InputError, "sample(n, generator)", "list"):
        Replay(source=[1, 2])
    with raises_sentence(InputError, "capacity, codecs", "source"):
        Replay(20, source=Means(), codecs={"a": "int8"})
    with raises_sentence(InputError, "policy"):
        Replay(source=Means(), policy="ring")
    with raises_sentence(InputError, "size"):
        Replay()
