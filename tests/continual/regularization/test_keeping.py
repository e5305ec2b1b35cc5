"""What every method of the family keeps: through kills and resumes, frozen weights, new and growing parameters."""

import random
import shutil

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import Part, run_continual
from pyfast_mmcl.train.checkpoint import save_checkpoint
from tests.check import assert_same_bits, raises_sentence
from tests.continual.regularization.truth import METHODS, fitted, make, small_stream

# Whatever the method, strong enough to be felt.
STRONG = {"ewc": {"lam": 1e4}, "ewc_huszar": {"lam": 1e4}, "online_ewc": {"lam": 1e4}, "mas": {"lam": 10.0},
          "si": {"c": 100.0}, "tir": {"lam": 1e4}}  # fmt: skip


class Killed(BaseException):
    """Not an error that anybody handles."""


class Kill(Part):
    def __init__(self, hook="", step=0):
        self.hook, self.step = hook, step

    def _maybe(self, learner, hook):
        if hook == self.hook and learner.step >= self.step:
            raise Killed

    def before_task(self, learner, task):
        self._maybe(learner, "before_task")

    def edit_grads(self, learner, batch):
        self._maybe(learner, "edit_grads")

    def after_step(self, learner, batch, out):
        self._maybe(learner, "after_step")

    def after_task(self, learner, task, loader):
        self._maybe(learner, "after_task")


def state_of(learner):
    tensors = {f"model.{name}": value for name, value in learner.model.state_dict().items()}
    stack = [("parts", [part.state_dict() for part in learner.parts])]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{place}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [(f"{place}.{i}", item) for i, item in enumerate(value)]
        else:
            tensors[place] = torch.as_tensor(list(value.encode()) if isinstance(value, str) else value)
    return tensors


CASES = [(method, {}) for method in METHODS] + [("ewc", {"mode": "separate", "labels": "sampled", "samples": 20})]


@pytest.mark.parametrize(("method", "hyper"), CASES)
def test_killed_twice_and_resumed_gives_the_same_bits(tmp_path, method, hyper):
    stream, hyper = small_stream(), {**STRONG[method], **hyper}
    whole = fitted(stream, method, Kill(), epochs=2, **hyper)
    rng = random.Random(method)
    # The first kill is in the second task, where there is a penalty to lose; the second may be anywhere later.
    places = [("edit_grads", rng.randrange(4, 8)), (rng.choice(("after_step", "after_task", "before_task")), 8)]
    for i, (hook, step) in enumerate(places):
        run = make(stream, method, Kill(hook, step), epochs=2, checkpoint_dir=tmp_path, checkpoint_every=1, **hyper)
        with pytest.raises(Killed):
            run.fit(stream, resume=i > 0)
    resumed = make(stream, method, Kill(), epochs=2, checkpoint_dir=tmp_path, checkpoint_every=1, **hyper)
    resumed.fit(stream, resume=True)
    assert resumed.history.losses == whole.history.losses and resumed.history.accuracy == whole.history.accuracy
    ours, theirs = state_of(resumed), state_of(whole)
    assert ours.keys() == theirs.keys() and len(ours) > 12
    for name in ours:
        assert_same_bits(ours[name], theirs[name])


@pytest.mark.parametrize(("method", "hyper"), CASES)
def test_resumed_from_every_checkpoint_gives_the_same_bits(tmp_path, monkeypatch, method, hyper):
    """Before the first step, after every step, epoch and task: each checkpoint alone leads to the same end."""
    stream, hyper = small_stream("til", rows=60), {**STRONG[method], **hyper}
    copies = []

    def save(folder, state):
        save_checkpoint(folder, state)
        copies.append(shutil.copytree(folder, tmp_path / f"copy {len(copies)}"))

    with monkeypatch.context() as patched:
        patched.setattr("pyfast_mmcl.train.learner.save_checkpoint", save)
        whole = make(stream, method, batch_size=8, checkpoint_dir=tmp_path / "run", checkpoint_every=1, **hyper)
        whole.fit(stream)
    theirs = state_of(whole)
    assert len(copies) > 3 * len(stream.tasks)
    for folder in copies:
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        resumed = make(stream, method, batch_size=8, checkpoint_dir=folder, **hyper)
        resumed.fit(stream, resume=True)
        assert resumed.history.losses == whole.history.losses
        ours = state_of(resumed)
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert_same_bits(ours[name], theirs[name])


class Grow(Part):
    """A head with a row per class seen, and a new layer in the second task."""

    def before_task(self, learner, task):
        old = learner.model.head.linear
        new = nn.Linear(old.in_features, max(task.classes) + 1)
        with torch.no_grad():
            if task.id:
                new.weight[: old.out_features], new.bias[: old.out_features] = old.weight, old.bias
        learner.model.head.linear = new
        if task.id == 1:
            learner.model.scale = nn.Linear(3, 2)

    def loss(self, learner, batch, out):
        # The new layer gets a gradient of its own, so that a wrong pull would show.
        return learner.model.scale.weight.sum() if hasattr(learner.model, "scale") else None


def quadratics(learner):
    part = next(p for p in learner.parts if hasattr(p, "quadratic_") or hasattr(p, "quadratics_"))
    return part.quadratics_ if hasattr(part, "quadratics_") else [part.quadratic_]


@pytest.mark.parametrize(("method", "hyper"), [(m, {}) for m in METHODS] + [("ewc", {"mode": "separate"})])
def test_new_parameters_are_free_and_a_growing_head_keeps_its_old_rows(method, hyper):
    seen = []

    class Look(Part):
        def loss(self, learner, batch, out):
            if learner.task.id == 1 and not seen:
                head, kept = learner.model.head.linear, quadratics(learner)[0]
                assert head.weight.shape[0] == 4 == kept.weight["head.linear.weight"].shape[0]
                assert not kept.weight["head.linear.weight"][2:].any() and kept.weight["head.linear.weight"][:2].any()
                assert not any(name.startswith("scale") for name in kept.weight)
                with torch.enable_grad():
                    term = kept.penalty(learner.model, 1.0)
                    pull = torch.autograd.grad(term, [head.weight, head.bias])
                assert not pull[0][2:].any() and not pull[1][2:].any()
                seen.append(learner.task.id)

    stream = small_stream()
    base = make(stream, method, **{**STRONG[method], **hyper})
    learner = make(stream, [Grow(), *base.parts, Look()])
    learner.fit(stream)
    assert seen == [1]
    kept = quadratics(learner)[-1]
    assert kept.weight["head.linear.weight"].shape == (6, 8) == kept.anchor["head.linear.weight"].shape
    assert all(w.isfinite().all() and bool((w >= 0).all()) for w in kept.weight.values())


@pytest.mark.parametrize("method", METHODS)
def test_weights_frozen_after_a_task_do_no_harm(method):
    class Freeze(Part):
        def before_task(self, learner, task):
            learner.model.encoders.requires_grad_(task.id == 0)

    stream = small_stream()
    learner = make(stream, [Freeze(), *make(stream, method, **STRONG[method]).parts])
    learner.fit(stream)
    names = set(quadratics(learner)[0].weight)
    assert names == {name for name, _ in learner.model.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_that_shrinks_is_an_error(method):
    learner = fitted(small_stream(), method, **STRONG[method])
    (kept,) = quadratics(learner)
    learner.model.head.linear = nn.Linear(8, 2)
    with raises_sentence(InputError, "head.linear.weight", "(6, 8)", "(2, 8)", "grow"):
        kept.penalty(learner.model, 1.0)


HELD = {"ewc": {"lam": 1e4}, "mas": {"lam": 1.0}, "si": {"c": 10.0}, "tir": {"lam": 3e4}}


@pytest.fixture(scope="module")
def told_apart():
    """Digits with task ids, and what fine-tuning forgets of them."""
    stream = digits_stream("til", modalities=["image"])
    settings = {"epochs": 3, "device": "cpu", "progress": False, "lr": 3e-3}
    return stream, settings, run_continual("finetune", stream, **settings).summary()["forgetting"]


@pytest.mark.parametrize("method", METHODS)
def test_it_forgets_less_than_fine_tuning_where_tasks_are_told_apart(told_apart, method):
    stream, settings, forgetting = told_apart
    assert forgetting > 0.08
    assert run_continual(method, stream, **settings, **HELD.get(method, {})).summary()["forgetting"] < 0.7 * forgetting
