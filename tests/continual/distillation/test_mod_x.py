"""Mod-X and DKR against their formulas written out row by row, on a CLIP."""

import copy

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.distillation.dkr import dkr
from pyfast_mmcl.continual.distillation.mod_x import mod_x
from pyfast_mmcl.ops.contrastive import info_nce
from pyfast_mmcl.train.spatial import SpatialAlignment
from tests.check import raises_sentence
from tests.continual import clip_case as case


def similarities(model, rows, shown, scale):
    out = model(rows).modalities
    return scale * out["image"][shown] @ out["text"][shown].T


def spoiled(model, seed):
    """The same CLIP with other image weights: right about some pairs, wrong about others."""
    other = copy.deepcopy(model)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        other.clip.visual.proj.add_(0.2 * torch.randn(other.clip.visual.proj.shape, generator=g))
        other.clip.logit_scale.add_(-0.3)
    return other


@pytest.fixture
def pairs():
    """A model, its teacher, a batch with missing texts, and the part that has taken the teacher."""
    model, rows = case.clip_model(classes=None), case.batch(missing=0.2)
    # Each text is made the nearest one of its picture for about half of the rows.
    teacher = spoiled(model, 1)
    return model, teacher, rows, rows.present["text"].nonzero().flatten()


def part_with(recipe, teacher):
    part = next(p for p in recipe if isinstance(p, SpatialAlignment))
    part.teacher_.take(teacher)
    return part


@pytest.mark.parametrize("parity", [False, True])
def test_mod_x_keeps_the_rows_about_which_the_earlier_model_was_right(pairs, parity):
    model, teacher, rows, shown = pairs
    kappa = [1.0, 1.0] if parity else [float(m.clip.logit_scale.detach().exp()) for m in (model, teacher)]
    new, old = similarities(model, rows, shown, kappa[0]), similarities(teacher, rows, shown, kappa[1]).detach()
    terms, right = [], 0
    for s, t in ((new, old), (new.T, old.T)):
        for i in range(len(s)):
            if int(t[i].argmax()) == i:
                right += 1
                p, q = t[i].log_softmax(0), s[i].log_softmax(0)
                terms.append((p.exp() * (p - q)).sum() / 2)
    assert 0 < right < 2 * len(shown)
    truth = 7.0 * torch.stack(terms).sum() / (1 if parity else len(shown))
    learner = case.learner(model)
    ours = part_with(mod_x(7.0, parity), teacher).loss(learner, rows, model(rows))
    case.assert_same_value_and_gradients(ours, truth, model)


def test_dkr_corrects_the_rows_about_which_the_earlier_model_was_wrong(pairs):
    model, teacher, rows, shown = pairs
    kappa = [float(m.clip.logit_scale.detach().exp()) for m in (model, teacher)]
    new, old = similarities(model, rows, shown, kappa[0]), similarities(teacher, rows, shown, kappa[1]).detach()
    terms = []
    for s, t in ((new, old), (new.T, old.T)):
        for i in range(len(s)):
            p, q = t[i].log_softmax(0), s[i].log_softmax(0)
            if int(p.argmax()) == i:
                terms.append((p.exp() * (p - q)).sum() / 2)
            elif int(q.argmax()) != i:
                terms.append(-q[i] / 2)
    truth = 3.0 * torch.stack(terms).sum() / len(shown)
    ours = part_with(dkr(3.0), teacher).loss(case.learner(model), rows, model(rows))
    case.assert_same_value_and_gradients(ours, truth, model)


@pytest.mark.parametrize("recipe", [mod_x, dkr])
def test_a_student_that_is_a_teacher_always_right_pays_nothing(recipe):
    model, rows = case.clip_model(classes=None), case.batch(6)
    out = model(rows)
    out.modalities = {
        "image": out.modalities["image"],
        "text": out.modalities["image"].detach(),
    }  # each its own nearest
    part = part_with(recipe(), model)
    part.teacher_ = lambda *_: _detached(out)
    part._old = lambda learner: model
    loss = part.loss(case.learner(model), rows, out)
    assert abs(float(loss.detach())) < 1e-9 and float(case.gradients(loss, model).abs().max()) < 1e-9


def _detached(out):
    out = copy.copy(out)
    out.scores, out.features = out.scores.detach(), out.features.detach()
    out.modalities = {name: x.detach() for name, x in out.modalities.items()}
    return out


def test_an_earlier_model_that_is_always_wrong_leaves_exactly_info_nce():
    model, rows = case.clip_model(classes=None), case.batch()
    rows.target = torch.arange(len(rows))
    teacher = copy.deepcopy(model)
    part = part_with(mod_x(), teacher)
    right_away = part.teacher_

    def wrong(batch, like):
        out = _detached(right_away(batch, like))
        out.modalities["text"] = out.modalities["image"].roll(1, 0)
        return out

    part.teacher_ = wrong
    part._old = lambda learner: teacher
    learner, out = case.learner(model), model(rows)
    objective = mod_x()[0]
    total = objective.loss(learner, rows, out) + part.loss(learner, rows, out)
    truth = info_nce(out.modalities["image"], out.modalities["text"], model.scale())
    torch.testing.assert_close(total, truth, rtol=0, atol=1e-12)
    torch.testing.assert_close(case.gradients(total, model), case.gradients(truth, model), rtol=0, atol=1e-12)


def test_the_first_task_has_no_earlier_model_and_alpha_0_never_has_one():
    model, rows = case.clip_model(classes=None), case.batch()
    for alpha, number in ((20.0, 0), (0.0, 1)):
        part = mod_x(alpha)[1]
        part.before_task(case.learner(model), case.task(number))
        assert part.loss(case.learner(model), rows, model(rows)) is None
    part = mod_x()[1]
    part.before_task(case.learner(model), case.task(1))
    assert part.loss(case.learner(model), rows, model(rows)) is not None


@pytest.mark.parametrize("recipe", [mod_x, dkr])
def test_rows_of_one_side_and_bad_numbers_are_sentences(recipe):
    model, rows = case.clip_model(), case.batch()
    del rows.inputs["text"], rows.present["text"]
    with raises_sentence(InputError, "two sides", "image"):
        recipe()[1].loss(case.learner(model), rows, model(rows))
    with raises_sentence(InputError, "alpha", "-1"):
        recipe(alpha=-1)
