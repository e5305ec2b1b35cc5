"""What every direct replay method keeps: through kills, threads, growing heads, missing modalities and half floats."""

import random

import pytest
import torch

from pyfast_mmcl.data import Records, Scenario, Stream
from pyfast_mmcl.train import Learner, default_model
from tests.check import assert_same_bits
from tests.continual.replay.truth import (
    METHODS,
    Cut,
    Grow,
    HiddenTasks,
    Killed,
    fitted,
    flat,
    make,
    memory_part,
    small_stream,
    state_of,
)

CASES = [
    *METHODS.items(),
    ("der", {"capacity": 20, "logits": "latest"}),
    ("er", {"capacity": 20, "policy": "class_balanced", "codecs": {"a": "int8"}}),
    ("er", {"capacity": None, "max_bytes": 4000, "policy": "ring"}),
]


@pytest.mark.parametrize(("method", "hyper"), CASES)
def test_killed_twice_and_resumed_gives_the_same_bits(tmp_path, method, hyper):
    stream = small_stream()
    whole = fitted(stream, method, Cut(), epochs=2, **hyper)
    rng = random.Random(method)
    places = [
        (rng.choice(("extend", "edit_grads")), rng.randrange(5, 9)),
        (rng.choice(("after_step", "after_task")), rng.randrange(9, 12)),
    ]
    saved = {"epochs": 2, "checkpoint_dir": tmp_path, "checkpoint_every": 1, **hyper}
    for i, (hook, step) in enumerate(places):
        run = make(stream, method, Cut(hook, step), **saved)
        with pytest.raises(Killed):
            run.fit(stream, resume=i > 0)
    resumed = make(stream, method, Cut(), **saved)
    resumed.fit(stream, resume=True)
    assert resumed.history.losses == whole.history.losses and resumed.history.accuracy == whole.history.accuracy
    ours, theirs = state_of(resumed), state_of(whole)
    assert ours.keys() == theirs.keys() and len(memory_part(resumed).memory_) > 10
    for name, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert_same_bits(value, theirs[name])
        else:
            assert value == theirs[name]


@pytest.mark.parametrize("method", METHODS)
def test_the_threads_of_the_process_change_nothing(method):
    stream, values = small_stream(), []
    for threads in (1, 2):
        learner = make(stream, method, **METHODS[method])
        torch.set_num_threads(threads)
        learner.fit(stream)
        values.append(flat(learner))
    assert_same_bits(*values)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_looks_at_task_ids_that_are_hidden(method):
    """A run whose rows do not say their task has the bits of one whose rows do."""
    stream, hyper = small_stream(), METHODS[method]
    hidden = make(stream, [HiddenTasks(), *make(stream, method, **hyper).parts])
    hidden.fit(stream)
    assert_same_bits(flat(hidden), flat(fitted(stream, method, **hyper)))
    if method not in ("agem", "gdumb"):  # these are given rows by the loader
        assert bool((memory_part(hidden).memory_.all().task == -1).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_head_may_grow(method):
    stream = small_stream()
    learner = make(stream, [Grow(), *make(stream, method, **METHODS[method]).parts], epochs=2)
    learner.fit(stream)
    assert learner.model.head.linear.out_features == 6 and flat(learner).isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_modalities_that_come_and_go(method):
    """Rows of memory have another set of modalities than those of the batch."""
    target = torch.arange(120) % 6
    records = Records({m: torch.randn(120, 4) for m in "abc"}, target)
    scenario = Scenario("mdcil", "any", labels="disjoint", task_id_at_test=False, modalities="per task")
    sets = [("a", "b"), ("c",), ("a", "b", "c")]
    stream = Stream.from_dataset(records, scenario=scenario, n_tasks=3, task_modalities=sets, missing={"b": 0.3})
    learner = fitted(stream, method, **METHODS[method])
    assert flat(learner).isfinite().all()
    kept = memory_part(learner).memory_.all()
    _, present, _ = stream.gather(kept.index)
    assert all(torch.equal(kept.present[m], present[m]) for m in "abc") and not kept.present["c"].all()


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_half_precision(method):
    stream = small_stream("til")
    learner = make(stream, method, optimizer="sgd", **METHODS[method])
    learner.model.to(torch.bfloat16)
    learner.fit(stream)
    assert flat(learner).isfinite().all() and flat(learner).dtype == torch.bfloat16
    assert all(value < 10 for epoch in learner.history.losses for value in epoch["terms"].values())


@pytest.mark.parametrize("method", ["der", "mir", "agem"])
def test_mixed_precision(method, accelerator):
    """Steps and answers are bfloat16, what is worked out beside them has the precision of weights, memories float32."""
    stream, dtypes = small_stream(), set()
    model = default_model(stream, width=8)
    model.head.linear.register_forward_hook(lambda module, args, out: dtypes.add((module.training, out.dtype)))
    half = accelerator(mixed_precision="bf16")
    learner = Learner(model, method, epochs=1, batch_size=16, accelerator=half, progress=False, hyper=METHODS[method])
    learner.fit(stream)
    assert flat(learner).isfinite().all() and flat(learner).dtype == torch.float32
    beside = {torch.float32} if method in ("mir", "agem") else set()
    assert {dtype for _, dtype in dtypes} == {torch.bfloat16} | beside
    assert all(x.dtype == torch.float32 for x in memory_part(learner).memory_.all().inputs.values())


@pytest.mark.parametrize("method", [m for m in METHODS if m != "gdumb"])
def test_the_first_step_is_that_of_fine_tuning(method):
    """The memory is empty, and nothing has been masked yet where the classes of the task are all there are."""
    stream = small_stream("dil")
    runs = []
    for name, hyper in ((method, METHODS[method]), ("finetune", {})):
        run = make(stream, name, Cut("after_step", 0), **hyper)
        with pytest.raises(Killed):
            run.fit(stream)
        runs.append(flat(run))
    assert_same_bits(*runs)
