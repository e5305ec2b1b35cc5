"""KDR-style replay against its specification written out, and what accuracy means for two towers."""

import copy

import pytest
import torch
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.replay.kdr import ClassesAcross, PairContrast, SimilarityKeeping, scale_of
from pyfast_mmcl.data import digits_stream, omniglot_stream
from pyfast_mmcl.models import DualEncoder, Output
from pyfast_mmcl.train import Learner, default_model, run_continual
from tests.check import raises_sentence
from tests.continual.replay import restated


class Towers(torch.nn.Module):
    """Two linear towers in float64 whose rows are zero where a side is missing."""

    def __init__(self, seed=0, scale=2.0):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.weights = torch.nn.ParameterList(torch.randn(3, 5, generator=g, dtype=torch.float64) for _ in range(2))
        self.logit_scale = torch.nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, batch):
        sides = {}
        for weight, name in zip(self.weights, ("a", "b"), strict=True):
            sides[name] = normalize(batch.inputs[name].double() @ weight, dim=1) * batch.present[name][:, None]
        return Output(torch.zeros(len(batch), 6), None, sides)


def similarities(model, batch, rows):
    out = model(batch).modalities
    rows = torch.tensor(rows)
    return out["a"][rows] @ out["b"][rows].T


def pairs(batch, rows):
    return [i for i in rows if batch.present["a"][i] and batch.present["b"][i]]


@pytest.fixture
def case():
    batch, model = restated.random_batch(), Towers()
    return batch, model, restated.learner(model=model)


@pytest.mark.parametrize("rows", ["fresh", "memory"])
def test_contrast_is_that_of_the_pairs_of_its_own_rows(case, rows):
    batch, model, learner = case
    mine = pairs(batch, [i for i in range(len(batch)) if (i < batch.fresh) == (rows == "fresh")])
    assert 2 < len(mine) < len(batch)
    s = model.logit_scale.exp() * similarities(model, batch, mine)
    own = torch.arange(len(mine))
    truth = 0.7 * (restated.cross_entropy(s, own) + restated.cross_entropy(s.T, own)) / 2
    ours = PairContrast(rows, 0.7).loss(learner, batch, model(batch))
    assert_same_value_and_gradients(model, ours, truth)
    # Rows of the other kind are no negatives.
    others = batch.fresh if rows == "fresh" else 0
    for x in batch.inputs.values():
        x[others : others + 5] += 1
    torch.testing.assert_close(PairContrast(rows, 0.7).loss(learner, batch, model(batch)), ours)


def test_the_similarities_of_the_earlier_model_are_kept(case):
    batch, model, learner = case
    part, teacher = SimilarityKeeping(0.5, 2.0), Towers(seed=1, scale=1.0)
    part.teacher_.take(teacher)
    mine = pairs(batch, range(len(batch)))
    p = teacher.logit_scale.exp() * similarities(teacher, batch, mine) / 2
    q = model.logit_scale.exp() * similarities(model, batch, mine) / 2
    truth = 0
    for old, new in ((p, q), (p.T, q.T)):
        rows = [restated.kl(restated.log_softmax(a), restated.log_softmax(b)) for a, b in zip(old, new, strict=True)]
        truth = truth + 0.5 * 2**2 * 0.5 * torch.stack(rows).mean()
    assert_same_value_and_gradients(model, part.loss(learner, batch, model(batch)), truth)


def test_a_student_that_is_its_teacher_pays_nothing(case):
    batch, model, learner = case
    part = SimilarityKeeping(1.0, 2.0)
    assert part.loss(learner, batch, model(batch)) is None
    part.teacher_.take(model)
    loss = part.loss(learner, batch, model(batch))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert abs(float(loss.detach())) < 1e-14 and all(float(g.abs().max()) < 1e-13 for g in gradients)
    with torch.no_grad():
        model.weights[0].add_(0.3)
    assert float(part.loss(learner, batch, model(batch)).detach()) > 1e-3


def test_the_scale_stops_at_a_hundred_and_its_gradient_does_not():
    model = Towers(scale=9.0)
    scale = scale_of(model)
    assert float(scale.detach()) == pytest.approx(100)
    assert float(torch.autograd.grad(scale, model.logit_scale)[0]) == pytest.approx(100)


def test_a_row_asks_with_its_one_side_for_the_class_whose_other_side_is_nearest():
    stream = digits_stream(n_tasks=2, missing={"text": 0.3, "image": 0.3})
    run = Learner(default_model(stream, "kdr"), "kdr", epochs=1, device="cpu", progress=False)
    run.fit(stream)
    model, memory = run.model.eval(), run.parts[0].memory_.all()
    rows = stream.loader(0, "test", batch_size=40)[0]
    with torch.no_grad():
        kept = {side: x.double() for side, x in model(memory).modalities.items()}
        asked = {side: x.double() for side, x in model(rows).modalities.items()}
    answers = run.predict(rows)
    for i in range(len(rows)):
        for c in range(10):
            found = []
            for side, other in (("image", "text"), ("text", "image")):
                mine = (memory.target == c) & memory.present[other]
                if rows.present[side][i] and mine.any():
                    mean = kept[other][mine].sum(0)
                    found.append(float(asked[side][i] @ mean / mean.norm()))
            if found:
                assert float(answers[i, c]) == pytest.approx(sum(found) / len(found), abs=1e-5)
            else:
                assert float(answers[i, c]) < -1e30


def test_means_follow_the_weights_and_the_memory():
    stream = digits_stream(n_tasks=2)
    run = Learner(default_model(stream, "kdr"), "kdr", epochs=1, device="cpu", progress=False)
    run.fit(stream)
    rows = stream.loader(0, "test", batch_size=40)[0]
    before = run.predict(rows)
    weights = copy.deepcopy(run.model.state_dict())
    with torch.no_grad():
        run.model.projections["text"].weight.mul_(-1)
    assert not torch.allclose(run.predict(rows), before)
    run.model.load_state_dict(weights)
    torch.testing.assert_close(run.predict(rows), before)
    assert ClassesAcross(run.parts[0]).predict(run, rows, run.model(rows)) is not None


def test_models_without_two_towers_are_refused():
    stream = digits_stream()
    with raises_sentence(InputError, "kdr", "DualEncoder", "MultimodalClassifier"):
        run_continual("kdr", stream, model=default_model(stream), device="cpu", progress=False)
    with raises_sentence(InputError, "two modalities", "image"):
        run_continual("kdr", digits_stream(modalities=["image"]), device="cpu", progress=False)
    with raises_sentence(InputError, "distill_weight", "at least 0", "-1"):
        run_continual("kdr", stream, distill_weight=-1.0)


def test_fewer_scores_than_classes_are_named():
    stream = digits_stream(n_tasks=2)
    model = default_model(stream, "kdr")
    model.n_classes = 3
    with raises_sentence(InputError, "3 classes", "as many classes as the stream"):
        run_continual("kdr", stream, model=model, epochs=1, batch_size=256, device="cpu", progress=False)


def run(stream, epochs, **hyper):
    return run_continual("kdr", stream, epochs=epochs, device="cpu", progress=False, **hyper).summary()


def test_keeps_what_fine_tuning_of_the_same_towers_loses():
    stream = digits_stream()
    tuned = run(stream, 4, replay_weight=0.0, distill_weight=0.0)
    kept = run(stream, 4)
    # .27 and .78 after ten epochs; forgetting .69 and .02.
    assert kept["last_accuracy"] > tuned["last_accuracy"] + 0.1
    assert kept["forgetting"] < tuned["forgetting"] - 0.15


def test_drawings_and_their_strokes(data_dir):
    """True pairs: the image of a character and the strokes that drew it."""
    stream = omniglot_stream(n_tasks=2, folder=data_dir)
    assert isinstance(default_model(stream, "kdr"), DualEncoder)
    history = run_continual("kdr", stream, epochs=3, device="cpu", progress=False, capacity=400)
    # A guess among 136 characters is right in .007 of the cases.
    assert history.summary()["last_accuracy"] > 0.035


def assert_same_value_and_gradients(model, ours, truth):
    torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-12)
    found = [torch.autograd.grad(value, list(model.parameters()), retain_graph=True) for value in (ours, truth)]
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-10)
        assert mine.abs().sum() > 0
