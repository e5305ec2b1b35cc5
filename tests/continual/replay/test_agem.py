"""A-GEM takes out of the gradient what would raise the loss on the memory."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from pyfast_mmcl.train import Part
from tests.check import assert_same_bits
from tests.continual.replay.truth import double, fitted, flat, make, memory_part, small_stream


class Gradients(Part):
    """Keeps the gradient as it is at this place of the list."""

    def __init__(self):
        self.now = None

    def edit_grads(self, learner, batch):
        self.now = {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}
        self.state = learner.generator.get_state()


def reference(learner, rows):
    """∂ mean cross-entropy / ∂θ of a copy in float64."""
    model = double(learner.model)
    rows.inputs = {name: x.double() for name, x in rows.inputs.items()}
    cross_entropy(model(rows).scores, rows.target).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def dot(a, b):
    return float(sum((a[name].double() * b[name].double()).sum() for name in b))


@pytest.mark.parametrize("scenario", ["cil", "dil", "til"])
def test_the_gradient_is_that_of_equation_11(scenario):
    conflicts = []

    class Compare(Part):
        def edit_grads(self, learner, batch):
            memory = memory_part(learner).memory_
            if learner.task.id == 0:
                assert len(memory) == 0
                after = {name: p.grad for name, p in learner.model.named_parameters()}
                assert all(torch.equal(after[name], g) for name, g in before.now.items())
                return
            assert bool((memory.all().task < learner.task.id).all())
            generator = torch.Generator()
            generator.set_state(before.state)
            g, ref = before.now, reference(learner, memory.sample(9, generator))
            along, size = dot(g, ref), dot(ref, ref)
            conflicts.append(along < 0)
            after = {name: p.grad for name, p in learner.model.named_parameters()}
            for name, r in ref.items():
                expected = g[name].double() - along / size * r if along < 0 else g[name].double()
                torch.testing.assert_close(after[name].double(), expected, rtol=1e-4, atol=1e-6)
                assert along < 0 or torch.equal(after[name], g[name])
            if along < 0:
                assert abs(dot(after, ref)) < 1e-5 * size**0.5 * dot(g, g) ** 0.5

    stream, before = small_stream(scenario), Gradients()
    base = make(stream, "agem", capacity=30, rows=9)
    make(stream, [before, *base.parts, Compare()], epochs=5).fit(stream)
    # New classes always go against old ones that share their head.
    assert any(conflicts) and all(conflicts) == (scenario == "cil")


def test_it_is_fine_tuning_where_nothing_conflicts():
    """The first task, and a memory of the very rows that are trained on."""
    stream = small_stream()

    class Stop(Part):
        def before_task(self, learner, task):
            if task.id == 1:
                weights.append(flat(learner))

    weights = []
    fitted(stream, "agem", Stop(), epochs=2)
    fitted(stream, "finetune", Stop(), epochs=2)
    assert_same_bits(*weights)


@pytest.mark.parametrize("scenario", ["cil", "dil"])
def test_a_weight_without_gradient_takes_its_share(scenario):
    """Its gradient counts as 0: the projection moves it like the others, and else it has none, as before."""
    stream = small_stream(scenario)
    learner = make(stream, "agem", capacity=30, epochs=5)
    bias = learner.model.encoders["a"].layers[1].bias
    conflicts = []

    class Untouched(Part):
        def edit_grads(self, learner, batch):
            bias.grad = None
            self.other = learner.model.head.linear.weight.grad.clone()

    class Look(Part):
        def edit_grads(self, learner, batch):
            conflict = not torch.equal(untouched.other, learner.model.head.linear.weight.grad)
            assert (bias.grad is not None) == conflict
            conflicts.append(conflict)

    untouched = Untouched()
    learner.parts[:] = [untouched, *learner.parts, Look()]
    learner.fit(stream)
    assert any(conflicts) and not all(conflicts)


def test_weights_that_the_memory_says_nothing_about_keep_their_gradient():
    class Pull(Part):
        def loss(self, learner, batch, out):
            return learner.model.apart.square()

    stream = small_stream()
    learner = make(stream, "agem", Pull())
    learner.model.requires_grad_(False)
    learner.model.apart = torch.nn.Parameter(torch.ones(()))
    learner.fit(stream)
    assert 0 < float(learner.model.apart.detach()) < 1


def test_memory_is_a_reservoir_of_the_tasks_so_far():
    stream = small_stream()
    agem, er = (memory_part(fitted(stream, name, capacity=30)).memory_ for name in ("agem", "er"))
    assert torch.equal(agem.all().index, er.all().index)
