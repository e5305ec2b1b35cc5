"""What iCaRL, SAMM, KDR-style replay and VQACL keep: through kills, threads, odd modalities and half floats."""

import pytest
import torch

from pyfast_mmcl.data import Records, Scenario, Stream
from pyfast_mmcl.train import Learner, Part, default_model
from tests.check import assert_same_bits

METHODS = ("icarl", "kdr", "samm", "vqacl")


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


def made(stream, method, *parts, **how):
    settings = {"epochs": 1, "batch_size": 16, "device": "cpu", "progress": False, "hyper": {"capacity": 30}}
    run = Learner(default_model(stream, method, width=16), method, **{**settings, **how})
    run.parts.extend(parts)
    return run


def flat(run):
    return torch.cat([x.detach().float().flatten() for x in run.model.state_dict().values()])


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


@pytest.mark.parametrize("method", METHODS)
def test_killed_twice_and_resumed_gives_the_same_bits(stream, tmp_path, method):
    saved = {"epochs": 2, "checkpoint_dir": tmp_path, "checkpoint_every": 1}
    whole = made(stream, method, Kill(), epochs=2)
    whole.fit(stream)
    steps = whole.step // 3
    # The first kill is inside the second task, where there is a teacher and a memory to lose, the second at its end.
    for i, (hook, step) in enumerate((("edit_grads", steps + 3), ("after_task", 2 * steps))):
        run = made(stream, method, Kill(hook, step), **saved)
        with pytest.raises(Killed):
            run.fit(stream, resume=i > 0)
    resumed = made(stream, method, Kill(), **saved)
    resumed.fit(stream, resume=True)
    assert resumed.history.losses == whole.history.losses and resumed.history.accuracy == whole.history.accuracy
    ours, theirs = state_of(resumed), state_of(whole)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name in ours:
        assert_same_bits(ours[name], theirs[name])


@pytest.mark.parametrize("method", METHODS)
def test_the_threads_of_the_process_change_nothing(stream, method):
    values = []
    for threads in (1, 2):
        run = made(stream, method)
        torch.set_num_threads(threads)
        run.fit(stream)
        values.append(flat(run))
    assert_same_bits(*values)


@pytest.mark.parametrize("method", METHODS)
def test_modalities_that_come_and_go(method):
    """Rows of memory have another set of modalities than those of the batch; a task may have a single one."""
    g = torch.Generator().manual_seed(1)
    target = torch.arange(120) % 6
    records = Records({m: torch.randn(120, 4, generator=g) + target[:, None] for m in "abc"}, target)
    scenario = Scenario("mdcil", "any", labels="disjoint", task_id_at_test=False, modalities="per task")
    sets = [("a", "b"), ("c",), ("a", "b", "c")]
    stream = Stream.from_dataset(records, scenario=scenario, n_tasks=3, task_modalities=sets, missing={"b": 0.3})
    run = made(stream, method)
    history = run.fit(stream)
    assert flat(run).isfinite().all() and history.accuracy_matrix.shape == (3, 3)
    kept = next(part for part in run.parts if hasattr(part, "memory_")).memory_.all()
    _, present, _ = stream.gather(kept.index)
    assert all(torch.equal(kept.present[m], present[m]) for m in "abc") and not kept.present["c"].all()


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_half_precision(stream, method):
    run = made(stream, method, optimizer="sgd")
    run.model.to(torch.bfloat16)
    history = run.fit(stream)
    assert flat(run).isfinite().all() and next(run.model.parameters()).dtype == torch.bfloat16
    assert all(value < 60 for epoch in history.losses for value in epoch["terms"].values())


class HiddenTasks(Part):
    """Training rows whose task nobody tells."""

    def extend(self, learner, batch):
        batch.task = torch.full_like(batch.task, -1)
        return batch


@pytest.mark.parametrize("method", METHODS)
def test_task_ids_that_are_hidden_do_no_harm(stream, method):
    """No replayed row of a hidden task moves a prototype of another; the other methods give the same bits."""
    run, hidden = made(stream, method), made(stream, method)
    hidden.parts.insert(0, HiddenTasks())
    run.fit(stream)
    hidden.fit(stream)
    if method == "vqacl":
        assert not torch.equal(flat(run), flat(hidden)) and flat(hidden).isfinite().all()
    else:
        assert_same_bits(flat(run), flat(hidden))


class Grow(Part):
    """A head with a row per class seen; what it has learned stays."""

    def before_task(self, learner, task):
        old = learner.model.head.linear
        new = torch.nn.Linear(old.in_features, max(task.classes) + 1)
        if task.id:
            with torch.no_grad():
                new.weight[: old.out_features], new.bias[: old.out_features] = old.weight, old.bias
        learner.model.head.linear = new


def test_a_head_may_grow_under_icarl(stream):
    run = made(stream, "icarl")
    run.parts.insert(0, Grow())
    run.fit(stream)
    assert run.model.head.linear.out_features == 6 and flat(run).isfinite().all()
