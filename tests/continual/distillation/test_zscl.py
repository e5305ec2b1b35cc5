"""ZSCL against its formulas: smoothed cross-entropy, reference similarities, the pull, the average of weights."""

import copy

import pytest
import torch
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.distillation.zscl import ReferenceKeeping, SmoothedObjective, WeightEnsemble, zscl
from pyfast_mmcl.models import MultimodalClassifier, Spec
from pyfast_mmcl.models.zero_shot import text_tokens
from pyfast_mmcl.train import run_continual
from tests.check import assert_same_bits, raises_sentence
from tests.continual import clip_case as case
from tests.continual.battery import make_stream

TEXTS = ["a blue boat", "the moon", "some dogs", "a tree", "number eight"]


def parts_of(**settings):
    """Objective, reference keeping, weight keeping, ensemble."""
    return zscl(**{"texts": TEXTS, **settings})


def moved(model, seed=2):
    """``model`` itself, with other weights in both towers."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in (model.clip.visual.proj, model.clip.text_projection, model.clip.ln_final.bias):
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return model


def reference_truth(model, initial, v, v_old, texts, *, weight, T, student_texts=False):
    """weight · T² · (mean over rows + mean over columns) of KL, with the initial model's texts on both sides or one."""
    r_old = normalize(initial.clip.encode_text(texts), dim=1).detach()
    r = normalize(model.clip.encode_text(texts), dim=1) if student_texts else r_old
    s, s_old = model.clip.logit_scale.detach().exp(), initial.clip.logit_scale.detach().exp()
    z, z_old = s * v @ r.T / T, (s_old * v_old @ r_old.T / T).detach()
    total = 0
    for new, old in ((z, z_old), (z.T, z_old.T)):
        p, q = old.log_softmax(1), new.log_softmax(1)
        total = total + T**2 * (p.exp() * (p - q)).sum(1).mean()
    return weight * total


@pytest.mark.parametrize("student_texts", [False, True])
def test_similarities_of_the_batch_to_the_reference_texts_stay_those_of_the_initial_model(student_texts):
    model, rows = case.clip_model(), case.batch()
    initial, learner = copy.deepcopy(model), case.learner(model)
    part = parts_of(weight=0.7, temperature=3.0, student_texts=student_texts, rows=99)[1]
    part.before_task(learner, case.task(0))
    assert not model.clip.logit_scale.requires_grad
    out = model(rows)
    nothing = part.loss(learner, rows, out)
    assert abs(float(nothing.detach())) < 1e-9 and float(case.gradients(nothing, model).abs().max()) < 1e-8
    moved(model)
    part.before_task(learner, case.task(1))  # the initial model, not the one before the task
    v = normalize(model.clip.encode_image(model.prepare(rows.inputs["image"])), dim=1)
    v_old = normalize(initial.clip.encode_image(model.prepare(rows.inputs["image"])), dim=1)
    texts = text_tokens(TEXTS)
    truth = reference_truth(model, initial, v, v_old, texts, weight=0.7, T=3.0, student_texts=student_texts)
    ours = part.loss(learner, rows, model(rows))
    case.assert_same_value_and_gradients(ours, truth, model)
    text_tower = torch.autograd.grad(ours, model.clip.text_projection, allow_unused=True)[0]
    assert (text_tower is not None) == student_texts


def test_given_reference_images_are_encoded_once_by_the_initial_model_and_drawn_by_the_generator():
    model, rows = case.clip_model(), case.batch()
    images = torch.rand(9, 3, 11, 11, dtype=torch.float64)
    initial, learner = copy.deepcopy(model), case.learner(model)
    part = parts_of(images=images, rows=4)[1]
    part.before_task(learner, case.task(0))
    moved(model)
    drawn = torch.randperm(9, generator=torch.Generator().manual_seed(3))[:4]
    v = normalize(model.clip.encode_image(model.prepare(images[drawn])), dim=1)
    v_old = normalize(initial.clip.encode_image(model.prepare(images[drawn])), dim=1)
    truth = reference_truth(model, initial, v, v_old, text_tokens(TEXTS), weight=1.0, T=2.0)
    ours = part.loss(learner, rows, model(rows))
    case.assert_same_value_and_gradients(ours, truth, model)
    # What is kept are two banks of embeddings and no model.
    state = part.state_dict()
    assert not state["teacher"] and state["texts"].shape == (5, 12) and state["images"].shape == (9, 12)
    again = parts_of(images=images, rows=4)[1]
    again.load_state_dict(state)
    fresh = case.learner(model)
    assert_same_bits(again.loss(fresh, rows, model(rows)), ours)


def test_rows_without_a_picture_take_no_part():
    model, rows = case.clip_model(), case.batch()
    learner, part = case.learner(model), parts_of()[1]
    part.before_task(learner, case.task(0))
    moved(model)
    whole = part.loss(learner, rows, model(rows))
    rows.present["image"][7:] = False
    some = part.loss(learner, rows, model(rows))
    torch.testing.assert_close(some, part.loss(learner, rows.select(slice(0, 7)), model(rows.select(slice(0, 7)))))
    assert not torch.equal(some, whole)
    del rows.inputs["image"], rows.present["image"]
    assert part.loss(learner, rows, model(rows)) is None


@pytest.mark.parametrize(("scenario", "candidates"), [("til", (2, 3)), ("cil", (0, 1, 2, 3))])
def test_cross_entropy_is_smoothed_over_the_candidates_alone(scenario, candidates):
    model = case.clip_model()
    rows = case.batch(12).select(torch.tensor([2, 3, 8, 9]))
    learner = case.learner(model, objective="classify", scenario=scenario, now=case.task(1, (2, 3)), seen=(0, 1, 2, 3))
    out = model(rows)
    truth = []
    for scores, y in zip(out.scores, rows.target.tolist(), strict=True):
        log_p = scores[list(candidates)].log_softmax(0)
        truth.append(-0.8 * log_p[candidates.index(y)] - 0.2 * log_p.mean())
    ours = SmoothedObjective(0.2).loss(learner, rows, out)
    case.assert_same_value_and_gradients(ours, torch.stack(truth).mean(), model)


def test_the_pull_is_to_the_weights_at_the_start_of_the_task_and_leaves_the_scale_out():
    model, rows = case.clip_model(), case.batch()
    learner = case.learner(model)
    reference, pull = parts_of(l2=0.5)[1:3]
    reference.before_task(learner, case.task(0))
    pull.before_task(learner, case.task(0))
    start = copy.deepcopy(dict(model.named_parameters()))
    moved(model)
    truth = 0.5 * sum((p - start[name].detach()).square().sum() for name, p in model.named_parameters())
    case.assert_same_value_and_gradients(pull.loss(learner, rows, None), truth, model)
    assert "clip.logit_scale" not in pull.start_
    assert parts_of(l2=0)[2].loss(learner, rows, None) is None


@pytest.mark.parametrize(("every", "sampled"), [(None, (2, 5)), (4, (3, 5)), (6, (5,)), (0, ())])
def test_after_a_task_the_model_is_the_mean_of_its_start_and_the_sampled_steps(every, sampled):
    """Two epochs of three steps; the weights after step i are i + 1, before the task 0."""
    model = torch.nn.Linear(1, 1)
    part, learner = WeightEnsemble(every), case.learner(model)
    torch.nn.init.zeros_(model.weight)
    part.before_task(learner, case.task(0))
    for step in range(6):
        learner.step_of_epoch = step % 3
        with torch.no_grad():
            model.weight.fill_(step + 1)
        part.after_step(learner, None, None)
        if step == 3:
            state, part = part.state_dict(), WeightEnsemble(every)
            part.load_state_dict(state)
    part.after_task(learner, case.task(0), None)
    mean = (0 + sum(i + 1 for i in sampled)) / (1 + len(sampled)) if every != 0 else 6
    assert float(model.weight.detach()) == pytest.approx(mean)
    part.before_task(learner, case.task(1))
    assert every == 0 or part.mean_["weight"].item() == pytest.approx(mean)


def test_a_run_on_a_stream_has_all_terms_and_other_models_are_refused():
    stream = make_stream("til", clip=True)
    history = run_continual(
        "zscl",
        stream,
        epochs=1,
        batch_size=16,
        device="cpu",
        progress=False,
        texts=TEXTS,
        images=torch.rand(9, 3, 8, 8),
    )
    assert {"objective", "reference_keeping", "weight_keeping"} <= set(history.losses[-1]["terms"])
    inputs = {"image": torch.zeros(1, 3, 8, 8), "text": torch.zeros(1, 16, dtype=torch.int64)}
    plain = MultimodalClassifier.for_stream(Spec(inputs, 6, vocabulary=49408))
    with raises_sentence(InputError, "zscl", "CLIP", "MultimodalClassifier"):
        run_continual("zscl", stream, model=plain, epochs=1, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": -1}, ("weight", "-1")),
        ({"l2": -1}, ("l2", "-1")),
        ({"temperature": 0}, ("temperature", "0")),
        ({"label_smoothing": 1.0}, ("label_smoothing", "1.0")),
        ({"average_every": -3}, ("average_every", "-3")),
        ({"rows": 0}, ("rows", "0")),
        ({"images": torch.zeros(3, 4)}, ("images", "[3, 4]")),
    ],
)
def test_bad_numbers_are_sentences(settings, words):
    with raises_sentence(InputError, *words):
        zscl(**settings)


def test_generated_answers_are_refused():
    out = case.clip_model()(case.batch())
    out.scores = out.scores.unsqueeze(1)
    learner = case.learner(None, objective="classify")
    with raises_sentence(InputError, "zscl", "[B, C]"):
        SmoothedObjective(0.1).loss(learner, case.batch(), out)
    assert isinstance(parts_of()[1], ReferenceKeeping)
