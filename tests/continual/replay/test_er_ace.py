"""ER-ACE scores fresh rows against current classes and rows of memory against all seen."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.replay.er_ace import AsymmetricCrossEntropy
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Part
from tests.check import assert_same_bits, raises_sentence
from tests.continual.replay.restated import learner, random_batch
from tests.continual.replay.truth import Watch, fitted, flat, make, small_stream


def restated(scores, target, fresh, current, seen, allowed):
    """−(Σ log p(y | C_curr) over fresh rows + Σ log p(y | C_seen) over the others) / n, in float64."""
    total = 0.0
    for row, y in enumerate(target.tolist()):
        classes = sorted((current if row < fresh else seen) & allowed(row))
        s = scores[row].detach().double()
        total += float(torch.stack([s[c] for c in classes]).exp().sum().log() - s[y])
    return total / len(target)


@pytest.mark.parametrize("scenario", ["cil", "dil", "til"])
@pytest.mark.parametrize("current", ["batch", "task"])
def test_the_loss_is_its_formula(scenario, current):
    stream = small_stream(scenario)
    narrower = []

    def look(learner, batch, out, terms):
        present = set(batch.target[: batch.fresh].tolist())
        now = set(stream.tasks[learner.task.id].classes) if current == "task" else present
        seen = {c for task in stream.tasks[: learner.task.id + 1] for c in task.classes}

        def allowed(row):
            return set(stream.tasks[int(batch.task[row])].classes) if scenario == "til" else set(range(6))

        expected = restated(out.scores, batch.target, batch.fresh, now, seen, allowed)
        assert float(terms[0].detach()) == pytest.approx(expected, rel=1e-5)
        (gradient,) = torch.autograd.grad(terms[0], out.scores, retain_graph=True)
        others = sorted(set(range(6)) - now)
        assert not gradient[: batch.fresh, others].any() and gradient.isfinite().all()
        narrower.append(now < seen)

    # Small batches do not have every class of their task.
    fitted(stream, "er_ace", Watch(look), current=current, capacity=20, batch_size=4)
    assert any(narrower) or (scenario, current) == ("dil", "task")


def test_with_all_classes_current_it_is_er():
    stream = small_stream("dil")
    assert_same_bits(flat(fitted(stream, "er_ace", current="task", epochs=2)), flat(fitted(stream, "er", epochs=2)))
    assert not torch.equal(
        flat(fitted(small_stream(), "er_ace", epochs=2)), flat(fitted(small_stream(), "er", epochs=2))
    )


def test_fresh_rows_do_not_push_old_classes_down():
    """The point of the method: with nothing replayed, fresh rows leave the rows of other classes in the head alone."""
    heads = []

    class Look(Part):
        def after_task(self, learner, task, loader):
            heads.append(learner.model.head.linear.weight.detach().clone())

    stream = small_stream()
    replay, loss = make(stream, "er_ace").parts
    replay.draws = 0
    make(stream, [replay, loss, Look()], optimizer="sgd", lr=0.1).fit(stream)
    for task, classes in enumerate([(0, 1), (2, 3), (4, 5)][1:], 1):
        moved = (heads[task] != heads[task - 1]).any(1).nonzero().flatten()
        assert tuple(moved.tolist()) == classes


def test_arguments_and_labels():
    with raises_sentence(UnknownNameError, "tasks", "task"):
        make(small_stream(), "er_ace", current="tasks")
    run = make(small_stream(), "er_ace")
    run.model.head.linear = torch.nn.Linear(8, 4)
    with raises_sentence(InputError, "4 classes", "class 5"):
        run.fit(small_stream())


@pytest.mark.parametrize("current", ["batch", "task"])
def test_a_model_too_narrow_for_the_task_is_named_before_the_label_comes(current):
    batch = random_batch(classes=3)
    told = learner(classes_seen=(0, 1, 2, 3), task=learner(classes=(2, 3)))
    with raises_sentence(InputError, "3 classes", "class 3"):
        AsymmetricCrossEntropy(current).loss(told, batch, Output(torch.zeros(len(batch), 3)))
