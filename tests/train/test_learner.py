"""The one loop: every hook fires, terms are summed and logged, nothing outside the run is touched."""

import math

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Records, Stream, digits_stream
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner, NonFiniteError, Part, default_model, run_continual
from pyfast_mmcl.train.checkpoint import load_checkpoint
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from tests.check import assert_same_bits, raises_sentence

CPU = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def stream():
    """Three tasks of two well-separated classes, two modalities."""
    g = torch.Generator().manual_seed(5)
    target = torch.arange(240) % 6
    a = torch.nn.functional.one_hot(target, 6) + 0.3 * torch.randn(240, 6, generator=g)
    b = torch.randn(240, 4, generator=g)
    return Stream.from_dataset(Records({"a": a, "b": b}, target), n_tasks=3, validation=0.1)


class Recorder(Part):
    """Writes down every call, with what it was given."""

    def __init__(self):
        self.calls, self.places = [], []

    def before_task(self, learner, task):
        self.calls.append(("before_task", task.id, learner.task.id, learner.classes_seen))

    def extend(self, learner, batch):
        self.calls.append(("extend", len(batch), learner.model.training))
        return batch

    def loss(self, learner, batch, out):
        self.calls.append(("loss", tuple(out.scores.shape), out.scores.requires_grad))
        self.places.append((learner.task.id, learner.epoch, learner.step_of_epoch, learner.steps_per_epoch))
        return 0.25 * out.scores.square().mean()

    def edit_grads(self, learner, batch):
        grads = [p.grad for p in learner.model.parameters()]
        self.calls.append(("edit_grads", all(g is not None for g in grads)))
        for grad in grads:
            grad.zero_()

    def after_step(self, learner, batch, out):
        self.calls.append(("after_step", learner.step, torch.is_grad_enabled()))

    def after_task(self, learner, task, loader):
        self.calls.append(("after_task", task.id, loader.n_rows, torch.is_grad_enabled()))

    def predict(self, learner, batch, out):
        self.calls.append(("predict", len(batch), learner.model.training, torch.is_grad_enabled()))
        return -out.scores

    def state_dict(self):
        return {"kept": torch.zeros(10)}


def test_every_hook_fires_in_order_with_what_it_needs(stream):
    part = Recorder()
    model = default_model(stream)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = Learner(model, [part, CrossEntropy()], epochs=2, optimizer="sgd", **CPU).fit(stream)
    names = [call[0] for call in part.calls]
    hooks = {name for name in vars(Part) if callable(getattr(Part, name)) and not name.startswith("_")}
    assert set(names) == hooks - {"state_dict", "load_state_dict"}
    steps = -(-stream.tasks[0].n_train // 32)
    epoch = ["extend", "loss", "edit_grads", "after_step"] * steps
    assert names == (["before_task", *epoch, *epoch, "after_task"] + ["predict"] * 3) * 3
    assert part.calls[0] == ("before_task", 0, 0, (0, 1))
    by_name = {name: [call[1:] for call in part.calls if call[0] == name] for name in set(names)}
    assert by_name["before_task"][2] == (2, 2, (0, 1, 2, 3, 4, 5))
    assert by_name["extend"][0] == (32, True) and by_name["loss"][0] == ((32, 6), True)
    assert by_name["edit_grads"][0] == (True,)
    assert [call[0] for call in by_name["after_step"]] == list(range(3 * 2 * steps))
    assert not by_name["after_step"][0][1] and by_name["after_task"][0] == (0, stream.tasks[0].n_train, True)
    assert by_name["predict"][0][1:] == (False, False)
    assert history.kept_bytes == [40, 40, 40]
    assert part.places == [(t, e, i, steps) for t in range(3) for e in range(2) for i in range(steps)]
    # Gradients were set to zero by the part, so plain SGD changed nothing.
    for name, value in model.state_dict().items():
        assert_same_bits(value, before[name])


def test_predictions_of_a_part_replace_those_of_the_model(stream):
    class Constant(Part):
        def predict(self, learner, batch, out):
            return torch.nn.functional.one_hot(torch.full((len(batch),), 3), 6).float()

    history = Learner(default_model(stream), [Constant(), CrossEntropy()], epochs=1, **CPU).fit(stream)
    assert history.accuracy_matrix[-1].tolist() == [0.0, 0.5, 0.0]


def test_terms_are_summed_and_logged_by_name(stream):
    class Fixed(Part):
        def __init__(self, value):
            self.value = value

        def loss(self, learner, batch, out):
            return out.scores.sum() * 0 + self.value

    learner = Learner(default_model(stream), [Fixed(1.5), Fixed(2.5), CrossEntropy("memory"), CrossEntropy()], **CPU)
    losses = learner.fit(stream).losses
    assert len(losses) == 30 and losses[-1]["task"] == 2 and losses[-1]["epoch"] == 9
    assert set(losses[0]["terms"]) == {"fixed", "fixed_2", "cross_entropy"}
    assert losses[0]["terms"]["fixed"] == 1.5 and losses[0]["terms"]["fixed_2"] == 2.5
    assert losses[9]["terms"]["cross_entropy"] < losses[0]["terms"]["cross_entropy"]


def test_weights_frozen_by_a_part_do_not_move_and_nothing_trainable_is_no_error(stream):
    class Freeze(Part):
        def before_task(self, learner, task):
            for p in learner.model.parameters():
                p.requires_grad_(False)

    model = default_model(stream)
    before = [p.clone() for p in model.parameters()]
    Learner(model, [Freeze(), CrossEntropy()], epochs=1, **CPU).fit(stream)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_a_plain_module_that_returns_scores_will_do(stream):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(6, 6)

        def forward(self, batch):
            return self.linear(batch.inputs["a"])

    learner = Learner(Plain(), "er", lr=0.05, batch_size=8, **CPU)
    assert learner.fit(stream).summary()["last_accuracy"] > 0.8
    assert isinstance(learner.forward(stream.loader(0)[0]), Output)
    assert learner.predict(stream.loader(0)[0]).shape == (32, 6)
    assert 0 <= learner.evaluate(1, "validation") <= 1


def test_random_state_and_threads_are_given_back(stream):
    torch.set_num_threads(2)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    run_continual("er", stream, epochs=1, threads=1, **CPU)
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_num_threads() == 2


def test_dropout_is_part_of_the_seed_and_not_of_the_surroundings(stream):
    def run(seed, global_seed):
        torch.manual_seed(global_seed)
        model = default_model(stream)
        model.fusion.linear = torch.nn.Sequential(torch.nn.Dropout(0.5), model.fusion.linear)
        Learner(model, "finetune", seed=seed, epochs=2, **CPU).fit(stream)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(run(0, 1), run(0, 2)) and not torch.equal(run(0, 1), run(1, 1))


def test_bits_do_not_depend_on_the_threads_of_the_process():
    # Large batches: torch splits their reductions over threads, and the bits would differ.
    digits, bits = digits_stream(n_tasks=2), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        model = default_model(digits)
        history = Learner(model, "er", epochs=1, batch_size=512, **CPU).fit(digits)
        bits.append((torch.cat([p.detach().flatten() for p in model.parameters()]), history.accuracy))
    for values, accuracy in bits[1:]:
        assert_same_bits(values, bits[0][0])
        assert accuracy == bits[0][1]


def test_history_tells_costs_and_summary(stream):
    history = run_continual("er", stream, epochs=1, capacity=20, **CPU)
    assert history.method == "er" and history.hyper["capacity"] == 20 and history.hyper["epochs"] == 1
    assert all(s > 0 for s in history.seconds) and all(m > 0 for m in history.peak_memory)
    # 10 floats, target, task, index, key and two flags per row.
    assert history.kept_bytes[-1] == 20 * (40 + 32 + 2)
    assert history.finished and set(history.summary()) >= {"last_accuracy", "forgetting", "forward_transfer"}
    assert history.initial_accuracy.shape == (3,) and history.tasks == [t.name for t in stream.tasks]


class Poison(Part):
    """A term that turns bad in the third task."""

    def __init__(self, value):
        self.value = value

    def loss(self, learner, batch, out):
        return out.scores.sum() * (self.value if learner.task.id == 2 else 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_loss_names_its_part_and_keeps_the_checkpoint(stream, tmp_path, value):
    learner = Learner(default_model(stream), [CrossEntropy(), Poison(value)], epochs=2, checkpoint_dir=tmp_path, **CPU)
    with raises_sentence(NonFiniteError, "'poison'", "task 3, epoch 1, step 1", str(tmp_path), "is kept"):
        learner.fit(stream)
    state = load_checkpoint(tmp_path)
    assert state["position"]["task"] == 2
    assert all(bool(x.isfinite().all()) for x in state["model"].values() if x.is_floating_point())


def test_weights_that_blow_up_are_never_saved(stream, tmp_path):
    class Explode(Part):
        def edit_grads(self, learner, batch):
            if learner.step == 2:
                for p in learner.model.parameters():
                    p.grad.fill_(math.inf)

    learner = Learner(
        default_model(stream), [CrossEntropy(), Explode()], checkpoint_dir=tmp_path, checkpoint_every=1, **CPU
    )
    with raises_sentence(NonFiniteError, "weights are no longer finite", "is kept"):
        learner.fit(stream)
    state = load_checkpoint(tmp_path)
    assert state["position"]["total"] == 2
    assert all(bool(x.isfinite().all()) for x in state["model"].values())


def test_gradient_clipping_bounds_the_step(stream):
    norms = []

    class Watch(Part):
        def after_step(self, learner, batch, out):
            norms.append(torch.stack([p.grad.norm() for p in learner.model.parameters()]).norm())

    Learner(default_model(stream), [CrossEntropy(), Watch()], epochs=1, clip_norm=0.01, **CPU).fit(stream)
    assert max(norms) <= 0.01 + 1e-6


def test_accelerate_runs_the_same_loop(stream, accelerator):
    plain, model = default_model(stream), default_model(stream)
    expected = Learner(plain, "er", epochs=2, **CPU).fit(stream)
    history = Learner(model, "er", epochs=2, accelerator=accelerator(), progress=False).fit(stream)
    assert history.accuracy == expected.accuracy
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert_same_bits(p, q)


@pytest.mark.gpu
def test_a_gpu_runs_the_same_loop(stream, tmp_path):
    learner = Learner(default_model(stream), "er", device="cuda", checkpoint_dir=tmp_path, progress=False)
    history = learner.fit(stream)
    assert history.summary()["last_accuracy"] > 0.5 and learner.parts[0].memory_.device.type == "cpu"
    again = Learner(default_model(stream), "er", device="cuda", checkpoint_dir=tmp_path, progress=False)
    assert again.fit(stream, resume=True).accuracy == history.accuracy
    for p, q in zip(again.model.parameters(), learner.model.parameters(), strict=True):
        assert p.is_cuda
        assert_same_bits(p, q)


class Wrong(Part):
    def __init__(self, loss=None, batch=False):
        self.term, self.no_batch = loss, batch

    def extend(self, learner, batch):
        return None if self.no_batch else batch

    def loss(self, learner, batch, out):
        return self.term


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Wrong(loss=0.5), "part 'wrong': expected loss to return a scalar tensor or None, got float"),
        (Wrong(loss=torch.ones(3)), "got shape (3,)"),
        (Wrong(batch=True), "part 'wrong': expected extend to return a Batch, got NoneType"),
    ],
)
def test_a_part_that_breaks_the_contract_is_named(stream, part, words):
    with raises_sentence(InputError, words):
        Learner(default_model(stream), [part, CrossEntropy()], **CPU).fit(stream)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x.sum(), "B = 16 rows, got ()"),
        (lambda x: x[:1], "got (1, 6)"),
        (lambda x: (x,), "got tuple"),
        (lambda x: x[:, :1], "scores 1 classes and the data has class 1"),
    ],
)
def test_a_model_that_breaks_the_contract_is_told_how(stream, answer, words):
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(6, 6)

        def forward(self, batch):
            return answer(self.linear(batch.inputs["a"]))

    with raises_sentence(InputError, words):
        Learner(Odd(), "finetune", **CPU).fit(stream)


def test_infinite_buffers_are_no_divergence(stream, tmp_path):
    model = default_model(stream)
    model.register_buffer("causal", torch.full((3, 3), -math.inf).triu(1))
    Learner(model, "finetune", epochs=1, checkpoint_dir=tmp_path, **CPU).fit(stream)
    assert load_checkpoint(tmp_path)["model"]["causal"].isinf().any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": []}, "at least one Part"),
        ({"method": [CrossEntropy]}, "list of Parts"),
        ({"method": 3}, "name of a recipe"),
        ({"method": [CrossEntropy()], "hyper": {"capacity": 1}}, "go with a recipe"),
        ({"method": [Recorder(), Recorder()]}, "only one part may give predictions"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": "many"}, "epochs: expected a whole number of at least 1, got 'many'"),
        ({"epochs": 1.5}, "got 1.5"),
        ({"seed": 0.5}, "seed: expected a whole number, got 0.5"),
        ({"checkpoint_every": True}, "got True"),
        ({"lr": math.nan}, "lr: expected a finite number above 0"),
        ({"lr": "fast"}, "got 'fast'"),
        ({"batch_size": 0}, "batch_size"),
        ({"threads": 0}, "threads"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"lr": -1.0}, "above 0"),
        ({"lr": 0.1, "optimizer": torch.optim.SGD}, "by name"),
        ({"device": "abacus"}, "expected a name"),
        ({"hyper": {"capacity": 0}}, "memory capacity: expected a whole number of at least 1, got 0"),
        ({"hyper": {"rows": 0}}, "at least 1"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(stream, arguments, words):
    with raises_sentence(InputError, words):
        Learner(default_model(stream), **{"method": "er", **arguments})


def test_unknown_names_list_the_nearest(stream):
    with pytest.raises(UnknownNameError, match="finetune"):
        run_continual("finetun", stream, **CPU)
    with pytest.raises(UnknownNameError, match="capacity"):
        run_continual("er", stream, capcity=3, **CPU)
    with pytest.raises(UnknownNameError, match="adamw"):
        run_continual("er", stream, optimizer="adamv", **CPU)
    with pytest.raises(UnknownNameError, match="fresh"):
        CrossEntropy("new")


def test_what_is_no_model_or_stream_is_refused(stream):
    with raises_sentence(InputError, "torch.nn.Module, got str"):
        Learner("resnet", "er")
    with raises_sentence(InputError, "expected a Stream, got list"):
        Learner(default_model(stream), "er").fit([])


def test_a_learner_runs_once(stream):
    learner = Learner(default_model(stream), "finetune", epochs=1, **CPU)
    with pytest.raises(InputError, match="no stream yet"):
        learner.evaluate(0)
    learner.fit(stream)
    with pytest.raises(InputError, match="has run already"):
        learner.fit(stream)


def test_a_recipe_function_and_an_entry_are_methods_too(stream):
    from pyfast_mmcl.continual.replay.er import er
    from pyfast_mmcl.train.registry import get_recipe

    accuracies = [run_continual(method, stream, epochs=1, **CPU).accuracy for method in ("er", er, get_recipe("er"))]
    assert accuracies[0] == accuracies[1] == accuracies[2]


def test_replay_draws_as_many_rows_as_asked(stream):
    sizes = []

    class Watch(Part):
        def loss(self, learner, batch, out):
            sizes.append((batch.fresh, len(batch) - batch.fresh))
            return None

    Learner(default_model(stream), [Replay(500, rows=5), CrossEntropy(), Watch()], epochs=1, **CPU).fit(stream)
    assert sizes[0] == (32, 0) and set(sizes[1:]) <= {(32, 5), (stream.tasks[0].n_train % 32, 5)}


def test_the_rows_of_the_current_task_can_be_read_before_training(stream):
    class Look(Part):
        def __init__(self):
            self.rows, self.after = [], []

        def before_task(self, learner, task):
            self.rows.append(torch.cat([batch.index for batch in learner.task_loader()]))

        def after_task(self, learner, task, loader):
            self.after.append(torch.cat([batch.index for batch in loader]))

    look = Look()
    learner = Learner(default_model(stream), [look, CrossEntropy()], epochs=1, **CPU)
    with raises_sentence(InputError, "task_loader", "fit"):
        learner.task_loader()
    learner.fit(stream)
    assert all(torch.equal(rows, stream.rows(t)) for t, rows in enumerate(look.rows))
    assert all(map(torch.equal, look.rows, look.after))
