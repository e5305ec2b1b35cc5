"""SI sums what every step took off the loss, whichever optimizer took it."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.regularization.si import SynapticIntelligence
from pyfast_mmcl.train import Learner, Part
from pyfast_mmcl.train.parts import CrossEntropy
from tests.continual.regularization.truth import make, parameters, small_stream, squares

C, XI = 2.0, 0.01


class ByHand(Part):
    """ω, Ω and θ̃ in float64 from the gradient of the cross-entropy alone and the weights before and after each step."""

    def __init__(self):
        self.omega, self.anchor, self.compared = None, None, 0

    def before_task(self, learner, task):
        self.start = parameters(learner.model)
        self.path = {name: torch.zeros_like(p) for name, p in self.start.items()}

    def loss(self, learner, batch, out):
        self.before = parameters(learner.model)
        model = copy.deepcopy(learner.model).double().requires_grad_(True)
        batch = copy.copy(batch)
        batch.inputs = {name: x.double() for name, x in batch.inputs.items()}
        grads = torch.autograd.grad(cross_entropy(model(batch).scores, batch.target), list(model.parameters()))
        self.grads = dict(zip(self.before, grads, strict=True))
        term = learner.parts[1].loss(learner, batch, out)
        if self.omega is None:
            assert term is None
        else:
            value = C * squares(self.before, self.anchor, self.omega)
            torch.testing.assert_close(term.detach().double(), value, rtol=1e-3, atol=1e-9)
            self.compared += 1

    def after_step(self, learner, batch, out):
        for name, now in parameters(learner.model).items():
            self.path[name] -= self.grads[name] * (now - self.before[name])

    def after_task(self, learner, task, loader):
        self.anchor = parameters(learner.model)
        new = {n: self.path[n] / ((self.anchor[n] - self.start[n]).square() + XI) for n in self.path}
        old = self.omega or {n: torch.zeros_like(x) for n, x in new.items()}
        self.omega = {n: (old[n] + new[n]).clamp(min=0) for n in new}
        ours = learner.parts[1].quadratic_.weight
        for name, value in self.omega.items():
            torch.testing.assert_close(ours[name].double(), value, rtol=1e-3, atol=1e-3 * float(value.max()))


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_importance_and_penalty_are_equations_3_to_5(optimizer, clip_norm):
    stream = small_stream()
    hand = ByHand()
    learner = make(stream, "si", hand, epochs=2, c=C, xi=XI, optimizer=optimizer, clip_norm=clip_norm)
    learner.fit(stream)
    assert hand.compared == 8 and max(float(w.max()) for w in hand.omega.values()) > 0


def test_what_the_steps_took_off_the_loss_adds_up():
    """With small plain gradient steps the sum of ω is the fall of the loss, the meaning of equation 3."""
    stream = small_stream(missing={})

    class Whole(Part):
        def before_task(self, learner, task):
            self.first = self.value(learner)

        def after_task(self, learner, task, loader):
            if task.id == 0:
                path = sum(float(p.double().sum()) for p in learner.parts[2].path_.values())
                fall = self.first - self.value(learner)
                assert fall > 0.01 and abs(path - fall) < 0.05 * fall

        def value(self, learner):
            (batch,) = list(learner.task_loader())
            with torch.no_grad():
                return float(cross_entropy(learner.model(batch).scores, batch.target))

    learner = make(stream, "si", epochs=40, optimizer="sgd", lr=0.02, batch_size=200)
    learner.parts.append(learner.parts.pop(1))  # the part looks before si has done with the task
    learner.parts.insert(1, Whole())
    learner.fit(stream)
    assert learner.step == 120


def test_frozen_weights_and_scaled_gradients():
    class Freeze(Part):
        def before_task(self, learner, task):
            learner.model.encoders.requires_grad_(False)

    stream = small_stream()
    learner = make(stream, [Freeze(), SynapticIntelligence(1.0, 1e-3), CrossEntropy()])
    learner.fit(stream)
    assert set(learner.parts[1].quadratic_.weight) == {
        n for n, p in learner.model.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize(("c", "xi"), [(-1.0, 1.0), (1.0, 0.0), (1.0, float("inf"))])
def test_arguments_are_checked(c, xi):
    with pytest.raises(InputError, match="expected a finite number"):
        SynapticIntelligence(c, xi)


def test_a_head_that_grows_after_its_hook_and_weights_that_have_no_gradient():
    """Other parts may grow the model after si has seen the task begin; what the loss does not use has no path."""

    class Grow(Part):
        def before_task(self, learner, task):
            old = learner.model.head.linear
            learner.model.head.linear = torch.nn.Linear(old.in_features, max(task.classes) + 1)
            if task.id:
                with torch.no_grad():
                    learner.model.head.linear.weight[: old.out_features] = old.weight

    stream = small_stream()
    part = SynapticIntelligence(C, XI)
    learner = make(stream, [CrossEntropy(), part, Grow()])
    learner.model.unused = torch.nn.Parameter(torch.ones(3))
    learner.fit(stream)
    assert part.quadratic_.weight["head.linear.weight"].shape == (6, 8)
    assert "unused" not in part.quadratic_.weight
    assert part.quadratic_.weight.keys() == {n for n, _ in learner.model.named_parameters()} - {"unused"}


def test_sparse_gradients_of_an_embedding_count():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(6, 6, sparse=True)

        def forward(self, batch):
            return self.table(batch.inputs["a"].argmax(1))

    learner = Learner(Tokens(), "si", optimizer="sgd", epochs=1, device="cpu", progress=False)
    learner.fit(small_stream())
    assert bool((learner.parts[1].quadratic_.weight["table.weight"] > 0).any())


def test_what_only_a_task_needs_is_gone_after_it():
    learner = make(small_stream(), "si")
    learner.fit(small_stream())
    parameters_kib = sum(4 * p.numel() for p in learner.model.parameters())
    assert learner.parts[1].path_ == {} == learner.parts[1].start_
    assert abs(learner.history.kept_bytes[-1] - 2 * parameters_kib) < 1000
