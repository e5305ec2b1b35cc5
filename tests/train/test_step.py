"""How a step is taken: in parts, in low precision, with a schedule; loss and gradient stay those of the batch."""

import math
from itertools import pairwise

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Batch, Records, Stream
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner, Part, default_model
from pyfast_mmcl.train.parts import CrossEntropy, Objective
from pyfast_mmcl.train.precision import Precision
from pyfast_mmcl.train.processes import Processes
from pyfast_mmcl.train.schedules import LearningRate
from pyfast_mmcl.train.step import Stepper
from tests.check import assert_same_bits, raises_sentence
from tests.train.process_jobs import make_stream

CPU = {"device": "cpu", "progress": False}


class Net(torch.nn.Module):
    """Scores and two sides, of which one is the features too, as in CLIP."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
        self.double()

    def forward(self, batch):
        v, t = self.a(batch.inputs["x"]), self.b(batch.inputs["x"].square())
        return Output(v, v, {"v": v, "t": t})


def rows(n):
    x = torch.randn(n, 4, dtype=torch.float64)
    return Batch({"x": x}, torch.arange(n) % 3, torch.zeros(n).long(), {"x": torch.ones(n).bool()}, torch.arange(n))


def stepper(model, **settings):
    return Stepper(model, torch.device("cpu"), Precision("no", torch.device("cpu")), Processes(), **settings)


def loss_of(model, out):
    """A loss over pairs of rows, the features, and the weights themselves."""
    s = out.modalities["v"] @ out.modalities["t"].T
    weights = sum(p.square().sum() for p in model.parameters())
    return (s.logsumexp(1) - s.diagonal()).mean() + out.features.pow(3).mean() + out.scores.sum() ** 2 + 0.1 * weights


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17])
@pytest.mark.parametrize("accumulate", [2, 3, 20])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(n, accumulate):
    model, batch = Net(), rows(n)
    expected = loss_of(model, model(batch))
    truth = torch.autograd.grad(expected, list(model.parameters()))
    made = stepper(model, accumulate=accumulate)
    loss = loss_of(model, made.answer(batch, 5))
    torch.testing.assert_close(loss, expected)
    made.backward(loss)
    for p, g in zip(model.parameters(), truth, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_random_layers_draw_the_same_on_both_passes_and_running_means_count_once():
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop = torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5)
            self.seen = []

        def forward(self, batch):
            out = self.drop(self.norm(batch.inputs["x"].float()))
            self.seen.append(out.detach())
            return out

    model = Noisy()
    made = stepper(model, accumulate=2)
    made.backward(made.answer(rows(8), 3).scores.sum())
    first, second = model.seen[:2], model.seen[2:]
    for a, b in zip(first, second, strict=True):
        assert_same_bits(a, b)
    assert not torch.equal(first[0] == 0, first[1] == 0) and model.norm.num_batches_tracked == 2


def test_parts_of_a_step_train_what_the_whole_step_trains():
    stream, weights = make_stream("pairs"), []
    for accumulate in (1, 4):
        model = default_model(stream, "er").double()
        Learner(model, "er", epochs=1, optimizer="sgd", accumulate=accumulate, **CPU).fit(stream)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_model_computes_in_the_precision_asked_for_and_losses_in_float32(precision, dtype):
    seen = []

    class Watched(torch.nn.Linear):
        def forward(self, batch):
            out = super().forward(batch.inputs["a"])
            seen.append(out.dtype)
            return Output(out, out)

    class Look(Part):
        def loss(self, learner, batch, out):
            seen.append((out.scores.dtype, out.features.dtype))

        def edit_grads(self, learner, batch):
            gradients.append(max(float(p.grad.abs().max()) for p in learner.model.parameters()))

    target = torch.arange(120) % 4
    stream = Stream.from_dataset(Records({"a": torch.randn(120, 5) + target[:, None]}, target), n_tasks=2)
    gradients: list[float] = []
    parts = [Objective(), Look()]
    history = Learner(Watched(5, 4), parts, epochs=1, precision=precision, **CPU).fit(stream)
    assert seen[0] == dtype and (torch.float32, torch.float32) in seen and history.hyper["precision"] == precision
    assert all(math.isfinite(x["terms"]["objective"]) for x in history.losses)
    # In float16 the backward pass scales them by 65536, and the first steps overflow; parts see them as they are.
    assert 0 < min(gradients) and max(x for x in gradients if math.isfinite(x)) < 100


def test_a_float16_step_that_overflows_is_left_out():
    precision, weight = Precision("fp16", torch.device("cpu")), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for factor, moved in ((math.inf, False), (0.5, True)):
        optimizer.zero_grad()
        before = weight.detach().clone()
        precision.backward((weight * factor).sum())
        precision.unscale(optimizer)
        precision.step(optimizer)
        assert torch.equal(weight.detach(), before) != moved
    assert weight.tolist() == [0.5, 0.5] and precision.scaler.get_scale() < 65536


def test_the_precision_of_an_accelerator_is_taken_and_another_refused(accelerator):
    stream, half = make_stream(), accelerator(mixed_precision="bf16")
    model = default_model(stream).double()
    history = Learner(model, "finetune", epochs=1, accelerator=half, progress=False).fit(stream)
    assert history.hyper["precision"] == "bf16" and "forward" not in vars(model)
    with raises_sentence(InputError, "'fp16' was asked for, and the accelerator has 'bf16'"):
        Learner(model, "finetune", accelerator=half, precision="fp16")


def rates(schedule, warmup, steps):
    """Factors of the learning rate over a task."""
    made, weight = LearningRate(schedule, warmup), torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 2.0}])
    made.start(optimizer)
    found = []
    for step in range(steps):
        made.set(optimizer, step, steps)
        found.append(optimizer.param_groups[0]["lr"] / 2.0)
    return found


def test_schedules_follow_their_formulas():
    assert rates("constant", 0, 4) == [1.0] * 4
    assert rates("constant", 4, 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates("constant", 0.5, 4) == [0.5, 1.0, 1.0, 1.0]
    assert rates("constant", 9, 3) == pytest.approx([1 / 9, 2 / 9, 3 / 9])
    assert rates("cosine", 2, 6) == pytest.approx(
        [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]
    )
    assert rates(lambda step, steps: 1 - step / steps, 0, 4) == [1.0, 0.75, 0.5, 0.25]


def test_every_task_starts_its_schedule_anew():
    seen = []

    class Look(Part):
        def after_step(self, learner, batch, out):
            seen.append(learner._optimizer.param_groups[0]["lr"])

    stream = make_stream()
    Learner(
        default_model(stream).double(),
        [CrossEntropy(), Look()],
        epochs=2,
        batch_size=8,
        lr=0.5,
        schedule="cosine",
        warmup=1,
        **CPU,
    ).fit(stream)
    steps = len(seen) // 3
    assert seen[:steps] == seen[steps : 2 * steps] and seen[0] == seen[1] == 0.5 and steps > 3
    assert all(later < earlier for earlier, later in pairwise(seen[1:steps]))


def test_a_module_that_rests_is_not_woken():
    modes = []

    class Rest(Part):
        def before_task(self, learner, task):
            learner.model.fusion.eval()

        def extend(self, learner, batch):
            modes.append((learner.model.training, learner.model.fusion.training))
            return batch

    stream = make_stream()
    Learner(default_model(stream).double(), [Rest(), CrossEntropy()], epochs=1, **CPU).fit(stream)
    assert set(modes) == {(True, False)}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"precision": "fp8"}, UnknownNameError, "precision"),
        ({"accumulate": 0}, InputError, "accumulate: expected a whole number of at least 1"),
        ({"schedule": "cosin"}, UnknownNameError, "cosine"),
        ({"warmup": -1}, InputError, "warmup"),
        ({"warmup": 1.5}, InputError, "warmup"),
        ({"patience": 0}, InputError, "patience"),
        ({"epochs": [1, 0]}, InputError, "epochs"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(arguments, error, words):
    with raises_sentence(error, words):
        Learner(Net(), "er", **arguments)


def test_a_schedule_that_gives_no_factor_is_told():
    with raises_sentence(InputError, "finite factor of at least 0, got -1"):
        rates(lambda step, steps: -1, 0, 2)
