"""iCaRL, SAMM, KDR-style replay and VQACL killed in the middle of a task and resumed: the bits of a whole run."""

import pytest
import torch

from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train import Learner, Part, default_model
from tests.check import assert_same_bits

HYPER = {"icarl": {"capacity": 30}, "samm": {"capacity": 30}, "kdr": {"capacity": 30}, "vqacl": {"capacity": 30}}


class Killed(BaseException):
    """Not an error that anybody handles."""


class Kill(Part):
    def __init__(self, hook="", step=0):
        self.hook, self.step = hook, step

    def _maybe(self, learner, hook):
        if hook == self.hook and learner.step >= self.step:
            raise Killed

    def edit_grads(self, learner, batch):
        self._maybe(learner, "edit_grads")

    def after_step(self, learner, batch, out):
        self._maybe(learner, "after_step")

    def after_task(self, learner, task, loader):
        self._maybe(learner, "after_task")


@pytest.fixture(scope="module")
def stream():
    g = torch.Generator().manual_seed(2)
    target = torch.arange(240) % 6
    columns = {"a": torch.randn(240, 6, generator=g) + target[:, None], "b": torch.randn(240, 1, 4, 4, generator=g)}
    return Stream.from_dataset(Records(columns, target), n_tasks=3, missing={"a": 0.2, "b": 0.3})


def made(stream, method, kill, folder=None):
    settings = {"epochs": 2, "batch_size": 16, "device": "cpu", "progress": False, "hyper": HYPER[method]}
    run = Learner(default_model(stream, method), method, **settings, checkpoint_dir=folder, checkpoint_every=1)
    run.parts.append(kill)
    return run


def state_of(run):
    """{place: tensor} of everything that a run leaves behind."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    stack = [("parts", [part.state_dict() for part in run.parts])]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{place}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            stack += [(f"{place}.{i}", item) for i, item in enumerate(value)]
        elif isinstance(value, torch.Tensor | int | float):
            tensors[place] = torch.as_tensor(value)
    return tensors


@pytest.mark.parametrize("method", sorted(HYPER))
def test_killed_twice_and_resumed_gives_the_same_bits(stream, tmp_path, method):
    whole = made(stream, method, Kill())
    whole.fit(stream)
    steps = whole.step // 3
    # The first kill is inside the second task, where there is a teacher and a memory to lose, the second at its end.
    for i, (hook, step) in enumerate((("edit_grads", steps + 3), ("after_task", 2 * steps))):
        run = made(stream, method, Kill(hook, step), tmp_path)
        with pytest.raises(Killed):
            run.fit(stream, resume=i > 0)
    resumed = made(stream, method, Kill(), tmp_path)
    resumed.fit(stream, resume=True)
    assert resumed.history.losses == whole.history.losses and resumed.history.accuracy == whole.history.accuracy
    ours, theirs = state_of(resumed), state_of(whole)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name in ours:
        assert_same_bits(ours[name], theirs[name])
