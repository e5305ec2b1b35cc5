"""CPE-CLIP: what trains, over which classes, and by how much."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.prompts import Prompts
from pyfast_mmcl.train import Learner, Part, default_model, run_continual
from tests.check import assert_same_bits, raises_sentence
from tests.continual.battery import make_stream


class Grads(Part):
    """Gradients of the first step of every task: before the method's change of them where it stands in front."""

    def __init__(self):
        self.seen = {}

    def edit_grads(self, learner, batch):
        if learner.task.id not in self.seen:
            kept = {n: p.grad.clone() for n, p in learner.model.named_parameters() if p.grad is not None}
            self.seen[learner.task.id] = kept


def fit(scenario):
    stream = make_stream(scenario, clip=True)
    learner = Learner(
        default_model(stream, "cpe_clip"), "cpe_clip", epochs=2, optimizer="sgd", device="cpu", progress=False
    )
    before, after = Grads(), Grads()
    learner.parts.insert(0, before)
    learner.parts.append(after)
    learner.fit(stream)
    return stream, learner, before, after


@pytest.fixture(scope="module")
def by_class():
    return fit("cil")


def test_only_prompts_and_their_coupling_learn(by_class):
    _, learner, before, _ = by_class
    first = dict(default_model(make_stream("cil", clip=True), "cpe_clip").named_parameters())
    own = {name for name, _ in learner.model.named_parameters()} - set(first)
    assert {name.split("sets.0.")[1] for name in own} == {"tokens.text", "coupling.weight", "coupling.bias"}
    assert set(before.seen[0]) == own
    for name, p in learner.model.named_parameters():
        if name in first:
            assert_same_bits(p, first[name])
    prompts = next(part for part in learner.model.attached if isinstance(part, Prompts))
    fresh = Prompts(prompts.shapes, coupled=True, seed=0, sample=torch.zeros(0))
    fresh.add_way()
    for a, b in zip(prompts.parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(a, b)


@pytest.mark.parametrize(("scenario", "shares"), [("cil", (1.0, 0.5)), ("dil", (1.0, 1.0))])
def test_gradients_are_scaled_by_the_share_of_new_classes(scenario, shares, by_class):
    _, _, before, after = by_class if scenario == "cil" else fit(scenario)
    for task, share in enumerate(shares):
        for name, grad in before.seen[task].items():
            torch.testing.assert_close(after.seen[task][name], share * grad, rtol=1e-6, atol=0)


def test_the_classes_of_other_tasks_get_no_say_in_training(by_class):
    stream, learner, _, _ = by_class
    batch = stream.loader(1, "train", batch_size=16)[0]
    learner.task = stream.tasks[1]
    out = learner.model.train()(batch)
    loss = learner.parts[1].loss(learner, batch, out)
    own = list(stream.tasks[1].classes)
    others = out.scores.detach().clone()
    others[:, [c for c in range(6) if c not in own]] = -9999
    expected = torch.nn.functional.cross_entropy(others, batch.target)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-5, atol=1e-6)


def test_the_answer_is_the_prompted_models(by_class):
    stream, learner, _, _ = by_class
    rows = stream.loader(0, "test", batch_size=64)[0]
    with torch.no_grad():
        assert_same_bits(learner.predict(rows), learner.model.eval()(rows).scores)


def test_prompts_go_as_deep_as_both_towers(by_class):
    _, learner, _, _ = by_class
    prompts = learner.model.attached[0]
    depth = min(len(learner.model.clip.visual.transformer.resblocks), len(learner.model.clip.transformer.resblocks))
    assert {name: shape[0] for name, shape in prompts.shapes.items()} == {"image": depth, "text": depth}


def test_shared_prompts_lower_the_loss():
    history = run_continual(
        "cpe_clip", make_stream("cil", clip=True), epochs=6, lr=2e-2, batch_size=12, device="cpu", progress=False
    )
    for task in range(2):
        terms = [sum(entry["terms"].values()) for entry in history.losses if entry["task"] == task]
        assert terms[-1] < terms[0]


def test_another_model_is_refused():
    stream = make_stream("cil")
    with raises_sentence(InputError, "cpe_clip", "CLIP"):
        run_continual("cpe_clip", stream, model=default_model(stream), epochs=1, device="cpu", progress=False)
