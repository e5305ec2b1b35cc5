"""A run killed anywhere and resumed gives the bits of an uninterrupted one."""

import json
import multiprocessing
import random
import signal
import time

import pytest
import torch

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train import Learner, Part, default_model
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from tests.check import assert_same_bits, raises_sentence
from tests.train.growing import Columns, Grow, Taught

EPOCHS, TASKS = 2, 3
SMALL = {"hyper": {"capacity": 20}}
# What is killed: methods of every family, a model that grows and is its own teacher, and every setting with a state.
RUNS = {
    "finetune": {},
    "joint": {},
    "er": SMALL,
    "icarl": SMALL,
    "derpp": SMALL,
    "online_ewc": {},
    "si": {},
    "lwf": {},
    "pairs": {"method": "er", "objective": "pairs", **SMALL},
    "growing": {"method": lambda: [Taught(), Grow(), CrossEntropy()], "model": Columns},
    "early stopping": {"method": "er", "patience": 1, "epochs": [4, 3, 2], "lr": 0.02, **SMALL},
    "settings": {"method": "er", "schedule": "cosine", "warmup": 3, "accumulate": 2, "precision": "bf16", **SMALL},
    "float16": {"method": "finetune", "precision": "fp16", "clip_norm": 1.0, "by_modality": True},
}


def make_stream(missing=0.3, objective="classify"):
    g = torch.Generator().manual_seed(2)
    target = torch.arange(240) % (6 if objective == "classify" else 60)
    columns = {"a": torch.randn(240, 6, generator=g) + target[:, None], "b": torch.randn(240, 1, 4, 4, generator=g)}
    return Stream.from_dataset(
        Records(columns, target), n_tasks=TASKS, missing={"b": missing}, validation=0.2, objective=objective
    )


class Killed(BaseException):
    """Not an error that anybody handles."""


class Kill(Part):
    """Stops the run inside the hook of a given name, at a given step or the next time the hook is called.

    The last task has no later before_task: there its after_task serves.
    """

    def __init__(self, hook, step):
        self.hook, self.step = hook, step

    def _maybe(self, learner, hook):
        if hook == self.hook and learner.step >= self.step:
            raise Killed

    def before_task(self, learner, task):
        self._maybe(learner, "before_task")

    def extend(self, learner, batch):
        self._maybe(learner, "extend")
        return batch

    def edit_grads(self, learner, batch):
        self._maybe(learner, "edit_grads")

    def after_step(self, learner, batch, out):
        self._maybe(learner, "after_step")

    def after_task(self, learner, task, loader):
        self._maybe(learner, "before_task" if self.hook == "before_task" and task.id == TASKS - 1 else "after_task")


STEP_HOOKS = ("extend", "edit_grads", "after_step")
HOOKS = ("before_task", *STEP_HOOKS, "after_task")


def learner(stream, method, folder=None, kill=None, model=None, **kwargs):
    model = default_model(stream, method if isinstance(method, str) else None) if model is None else model
    # Dropout, so that the random state of layers is part of what must come back.
    if hasattr(model, "fusion"):
        model.fusion.linear = torch.nn.Sequential(torch.nn.Dropout(0.2), model.fusion.linear)
    settings = {"epochs": EPOCHS, "batch_size": 16, "device": "cpu", "progress": False}
    made = Learner(model, method, **{**settings, **kwargs}, checkpoint_dir=folder)
    made.parts.append(kill or Kill("never", 0))
    return made


def run_of(name, streams, folder=None, kill=None, **kwargs):
    """A learner of one of RUNS and its stream."""
    chosen = {"method": name, "objective": "classify", **RUNS[name], **kwargs}
    method, stream = chosen.pop("method"), streams[chosen.pop("objective")]
    model = chosen.pop("model", lambda: None)()
    return learner(stream, method() if callable(method) else method, folder, kill, model, **chosen), stream


@pytest.fixture(scope="module")
def streams():
    return {objective: make_stream(objective=objective) for objective in ("classify", "pairs")}


@pytest.fixture(scope="module")
def stream(streams):
    return streams["classify"]


@pytest.fixture(scope="module")
def whole(streams):
    """The uninterrupted runs."""
    runs = {}
    for name in RUNS:
        runs[name], stream = run_of(name, streams)
        runs[name].fit(stream)
    return runs


def assert_same_run(ours, theirs):
    assert ours.history.accuracy == theirs.history.accuracy and ours.history.initial == theirs.history.initial
    assert ours.history.losses == theirs.history.losses and ours.history.kept_bytes == theirs.history.kept_bytes
    assert ours.step == theirs.step and ours.history.epochs == theirs.history.epochs
    assert ours.history.by_modality == theirs.history.by_modality
    for (name, a), b in zip(ours.model.state_dict().items(), theirs.model.state_dict().values(), strict=True):
        assert name and a.isfinite().all()
        assert_same_bits(a, b)
    state = [made._optimizer.state_dict()["state"] for made in (ours, theirs)]
    for key in state[0]:
        for name in state[0][key]:
            assert_same_bits(state[0][key][name], state[1][key][name])


# Five random places for each of the runs, two kills in each.
PLACES = [(name, seed) for name in RUNS for seed in range(5)]


def test_there_are_places_enough():
    assert len(PLACES) >= 50


@pytest.mark.parametrize(("name", "seed"), PLACES)
def test_killed_anywhere_and_resumed_gives_the_same_bits(streams, whole, tmp_path, name, seed):
    rng = random.Random(f"{name} {seed}")
    every = rng.choice([1, 2, 5, None])
    kills = sorted(rng.sample(range(whole[name].step), 2))
    for attempt, step in enumerate(kills):
        # The first kill is inside a step, so that there are steps left for the second, which may be anywhere.
        hook = rng.choice(HOOKS if attempt else STEP_HOOKS)
        run, stream = run_of(name, streams, tmp_path, Kill(hook, step), checkpoint_every=every)
        with pytest.raises(Killed):
            run.fit(stream, resume=attempt > 0)
    run, stream = run_of(name, streams, tmp_path, checkpoint_every=every)
    run.fit(stream, resume=True)
    assert_same_run(run, whole[name])
    memory, other = (getattr(made.parts[0], "memory_", None) for made in (run, whole[name]))
    if memory is not None:
        assert_same_bits(memory.all().index, other.all().index)
        assert all(torch.equal(memory.all().inputs[m], other.all().inputs[m]) for m in other.all().inputs)


def test_checkpointing_changes_nothing(stream, whole, tmp_path):
    run = learner(stream, "er", tmp_path, checkpoint_every=3, **SMALL)
    run.fit(stream)
    assert_same_run(run, whole["er"])


def test_a_finished_run_is_read_and_not_run_again(stream, whole, tmp_path):
    learner(stream, "er", tmp_path, **SMALL).fit(stream)
    again = learner(stream, "er", tmp_path, Kill("extend", 0), **SMALL)
    assert again.fit(stream, resume=True).accuracy == whole["er"].history.accuracy
    assert_same_bits(again.model.head.linear.weight, whole["er"].model.head.linear.weight)


def test_resume_of_an_empty_folder_starts_afresh(stream, whole, tmp_path):
    run = learner(stream, "er", tmp_path / "new", **SMALL)
    run.fit(stream, resume=True)
    assert_same_run(run, whole["er"])


def run_in_a_process(folder, name, epochs):
    streams = {objective: make_stream(objective=objective) for objective in ("classify", "pairs")}
    run, stream = run_of(name, streams, folder, epochs=epochs, checkpoint_every=1)
    run.fit(stream, resume=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("name", ["er", "growing", "settings"])
def test_kill_9_in_the_middle_of_whatever_it_does(streams, tmp_path, name):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "pyfast_mmcl.train.learner"])
    for kill in range(2):
        process = context.Process(target=run_in_a_process, args=(tmp_path / "run", name, 6))
        process.start()
        enough, deadline = steps_done(tmp_path / "run") + 5, time.monotonic() + 120
        while time.monotonic() < deadline and process.is_alive() and steps_done(tmp_path / "run") < enough:
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"kill {kill}: the run was over before it could be killed"
        assert steps_done(tmp_path / "run") >= enough
    resumed, stream = run_of(name, streams, tmp_path / "run", epochs=6, checkpoint_every=1)
    resumed.fit(stream, resume=True)
    whole, stream = run_of(name, streams, epochs=6)
    whole.fit(stream)
    assert_same_run(resumed, whole)


def steps_done(folder):
    """Steps of the last checkpoint; its index alone is read, which is replaced as a whole."""
    index = folder / "checkpoint.json"
    return json.loads(index.read_text())["state"]["position"]["total"] if index.exists() else 0


def test_an_earlier_run_is_never_overwritten(stream, tmp_path):
    learner(stream, "finetune", tmp_path).fit(stream)
    with raises_sentence(InputError, str(tmp_path), "earlier run", "resume"):
        learner(stream, "finetune", tmp_path).fit(stream)
    with raises_sentence(InputError, "checkpoint_dir"):
        learner(stream, "finetune").fit(stream, resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "er"}, "method is 'finetune'"),
        ({"seed": 1}, "seed is 0"),
        ({"epochs": 5}, "epochs is 2"),
        ({"batch_size": 8}, "batch size is 16"),
        ({"lr": 0.5}, "optimizer is 'adamw lr 0.001'"),
        ({"clip_norm": 1.0}, "gradient clipping is None"),
        ({"precision": "bf16"}, "precision is 'no'"),
        ({"accumulate": 2}, "accumulation is 1"),
        ({"schedule": "cosine"}, "schedule is 'constant'"),
        ({"warmup": 0.1}, "warm-up is 0"),
        ({"patience": 2}, "patience is None"),
        ({"measure": "recall_at_1"}, "measure is None"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(stream, tmp_path, change, words):
    learner(stream, "finetune", tmp_path).fit(stream)
    with raises_sentence(CheckpointError, "another run", words):
        learner(stream, folder=tmp_path, **{"method": "finetune", **change}).fit(stream, resume=True)


def listed(capacity=20, weight=1.0):
    return [Replay(capacity), Weighted(weight), CrossEntropy()]


class Weighted(Part):
    def __init__(self, weight):
        self.weight = weight
        self.seen_ = 0

    def after_step(self, learner, batch, out):
        self.seen_ += 1


def test_a_list_of_parts_is_known_by_their_arguments(stream, tmp_path):
    learner(stream, listed(), tmp_path).fit(stream)
    learner(stream, listed(), folder=tmp_path).fit(stream, resume=True)
    with raises_sentence(CheckpointError, "another run", "parts.2 Weighted.weight is 1.0, here it is 2.0"):
        learner(stream, listed(weight=2.0), folder=tmp_path).fit(stream, resume=True)
    with raises_sentence(CheckpointError, "parts.1 Replay._make.arguments is (20,), here it is (30,)"):
        learner(stream, listed(30), folder=tmp_path).fit(stream, resume=True)


def test_another_stream_or_model_is_refused(stream, tmp_path):
    learner(stream, "finetune", tmp_path).fit(stream)
    with raises_sentence(CheckpointError, "another run", "stream"):
        learner(make_stream(0.1), "finetune", tmp_path).fit(make_stream(0.1), resume=True)
    other = Learner(default_model(stream, width=32), "finetune", epochs=EPOCHS, batch_size=16, device="cpu",
                    progress=False, checkpoint_dir=tmp_path)  # fmt: skip
    other.parts.append(Kill("never", 0))
    with raises_sentence(CheckpointError, "another model"):
        other.fit(stream, resume=True)


def test_a_folder_that_cannot_be_written_stops_the_run_before_training(stream, tmp_path):
    (tmp_path / "file").write_text("in the way")
    run = learner(stream, "finetune", tmp_path / "file" / "run", Kill("extend", 0))
    with raises_sentence(CheckpointError, "cannot write"):
        run.fit(stream)


class FreezeEncoders(Part):
    """Freezes a part of the model for good in the second task."""

    def before_task(self, learner, task):
        if task.id == 1:
            learner.model.encoders.requires_grad_(False)


def test_frozen_weights_stay_frozen_after_a_resume(stream, tmp_path):
    def run(folder, kill=None, resume=False):
        made = learner(stream, [FreezeEncoders(), CrossEntropy()], folder, kill)
        made.fit(stream, resume=resume)
        return made

    whole = run(None)
    with pytest.raises(Killed):
        run(tmp_path, Kill("edit_grads", whole.step - 3))
    resumed = run(tmp_path, resume=True)
    assert not any(p.requires_grad for p in resumed.model.encoders.parameters())
    assert_same_run(resumed, whole)


def test_parts_without_a_recipe_resume_too(stream, tmp_path):
    def run(folder, kill=None, resume=False):
        made = learner(stream, [CrossEntropy("fresh", weight=0.5), CrossEntropy()], folder, kill)
        made.fit(stream, resume=resume)
        return made

    with pytest.raises(Killed):
        run(tmp_path, Kill("after_step", 20))
    assert_same_run(run(tmp_path, resume=True), run(None))


def test_a_model_that_grows_needs_a_structure_to_be_resumed(stream, tmp_path):
    class Silent(Columns):
        structure = restructure = None

    def run(kill=None):
        made = Learner(
            Silent(), [Grow(), CrossEntropy()], epochs=1, device="cpu", progress=False, checkpoint_dir=tmp_path
        )
        made.parts.append(kill or Kill("never", 0))
        return made

    with pytest.raises(Killed):
        run(Kill("extend", 4)).fit(stream)
    with raises_sentence(CheckpointError, "structure() and restructure()", "models.Growing"):
        run().fit(stream, resume=True)


def test_modules_at_rest_are_at_rest_after_a_resume(streams, tmp_path):
    with pytest.raises(Killed):
        run_of("growing", streams, tmp_path, Kill("extend", 14))[0].fit(streams["classify"])
    seen = []

    class Look(Kill):
        def extend(self, learner, batch):
            seen.append([column.training for column in learner.model.columns])
            return batch

    run, stream = run_of("growing", streams, tmp_path, Look("never", 0))
    run.fit(stream, resume=True)
    assert seen[0] == [False, True] and seen[-1] == [False, False, True]
    assert run.history.trainable_parameters == [4 * 7 + 6 * 5 + 6, 5 * 7 + 6 * 6 + 6, 6 * 7 + 6 * 7 + 6]
    assert run.history.parameters[-1] == sum(p.numel() for p in run.model.parameters())
