"""The objective follows the stream, and so does what the accuracy matrix holds."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Batch, Records, Stream, get_scenario
from pyfast_mmcl.models import DualEncoder, Output
from pyfast_mmcl.train import History, Learner, Part, default_model, run_continual
from pyfast_mmcl.train.evaluation import alone, class_accuracy, pair_recall, pair_recalls
from pyfast_mmcl.train.importance import fisher
from pyfast_mmcl.train.pairs import pair_scale
from pyfast_mmcl.train.parts import CrossEntropy, Objective
from tests.check import raises_sentence

CPU = {"device": "cpu", "progress": False}


def make_stream(objective="pairs", n=240, classes=12, dtype=torch.float32):
    """Rows of two modalities that both tell the class, in two domains."""
    g = torch.Generator().manual_seed(3)
    target = torch.arange(n) % classes
    a, b = torch.randn(classes, 12, generator=g), torch.randn(classes, 9, generator=g)
    columns = {"a": a[target] + 0.1 * torch.randn(n, 12, generator=g), "b": b[target]}
    domain, split = torch.arange(n) // (n // 2), torch.where(torch.arange(n) // classes % 5 == 0, 2, 0)
    scenario = get_scenario("dil")
    columns = {name: x.to(dtype) for name, x in columns.items()}
    return Stream(Records(columns, target), scenario, domain, split, objective=objective)


def rows(target, present=None):
    n = len(target)
    there = torch.ones(n, dtype=torch.bool)
    present = {"a": there, "b": there} if present is None else present
    return Batch({m: torch.zeros(n, 1) for m in present}, target, torch.zeros(n).long(), present, torch.arange(n))


class Asked:
    """What Objective reads of a learner."""

    def __init__(self, objective, model=None):
        self.objective, self.model = objective, torch.nn.Linear(1, 1) if model is None else model


def truth(v, t, target, scale):
    """Mean over rows of logsumexp − mean of the positives, of both directions; float64, with the matrix."""
    s = scale * F.normalize(v, dim=1) @ F.normalize(t, dim=1).T
    same = (target[:, None] == target).double()
    mean = (s * same).sum(1) / same.sum(1), (s * same).sum(0) / same.sum(0)
    return ((s.logsumexp(1) - mean[0]).mean() + (s.logsumexp(0) - mean[1]).mean()) / 2


@pytest.mark.parametrize("chosen", ["all", "fresh", "memory"])
def test_pairs_are_contrasted_and_rows_of_one_target_are_no_negatives(chosen):
    n = 17
    v, t = torch.randn(n, 8, dtype=torch.float64, requires_grad=True), torch.randn(n, 8, dtype=torch.float64)
    target = torch.randint(0, 6, (n,))
    present = {"a": torch.ones(n, dtype=torch.bool), "b": torch.arange(n) % 5 != 1}
    batch = rows(target, present)
    batch.fresh = 11
    out = Output(torch.zeros(n, 6), modalities={"a": v, "b": t})
    model = torch.nn.Module()
    model.logit_scale = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
    loss = Objective(chosen, weight=0.5).loss(Asked("pairs", model), batch, out)
    taken = present["b"] & {"all": batch.index >= 0, "fresh": batch.index < 11, "memory": batch.index >= 11}[chosen]
    expected = 0.5 * truth(v[taken], t[taken], target[taken], math.exp(1.5))
    torch.testing.assert_close(loss, expected)
    ours = torch.autograd.grad(loss, v, retain_graph=True)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(expected, v)[0])
    assert not ours[~taken].any()


def test_fewer_than_two_pairs_have_no_term():
    batch = rows(torch.tensor([0, 1]), {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])})
    out = Output(torch.zeros(2, 2), modalities={"a": torch.randn(2, 4), "b": torch.randn(2, 4)})
    assert Objective().loss(Asked("pairs"), batch, out) is None


def test_classes_and_generated_answers_are_cross_entropy():
    for shape in ((9, 5), (9, 3, 5)):
        scores, target = torch.randn(shape), torch.randint(0, 5, shape[:-1])
        for chosen in ("all", "fresh"):
            terms = [
                kind(chosen).loss(Asked("classify"), rows(target), Output(scores)) for kind in (CrossEntropy, Objective)
            ]
            assert torch.equal(*terms)
    assert [Objective(chosen).name for chosen in ("all", "memory")] == ["objective", "objective_memory"]


def test_the_scale_is_that_of_the_model_and_at_most_100():
    model = torch.nn.Module()
    assert pair_scale(model) == 1 / 0.07
    model.clip = torch.nn.Module()
    model.clip.logit_scale = torch.nn.Parameter(torch.tensor(9.0))
    scale = pair_scale(model)
    scale.backward()
    assert scale.item() == pytest.approx(100.0) and model.clip.logit_scale.grad > 0


def test_recall_counts_rows_of_one_target_as_answers_of_each_other():
    v = torch.eye(4)
    t = v[[0, 2, 1, 3]]
    answers = [(rows(torch.tensor(target)), Output(torch.zeros(4, 4), modalities={"a": v, "b": t}))
               for target in ([0, 1, 2, 3], [0, 1, 1, 3])]  # fmt: skip
    assert pair_recall(answers[:1]) == 0.5 and pair_recall(answers[1:]) == 1.0
    skewed = Output(torch.zeros(4, 4), modalities={"a": torch.ones(4, 4), "b": v})
    # Every picture is as near to every text, and ties go to the first one.
    assert pair_recalls([(answers[0][0], skewed)]) == {"a to b": 0.25, "b to a": 0.25}


def test_generated_targets_are_one_item_where_all_tokens_agree():
    target = torch.tensor([[1, 2], [1, 3], [1, 2]])
    v = torch.eye(3)
    out = Output(torch.zeros(3, 1), modalities={"a": v, "b": v[[2, 1, 0]]})
    assert pair_recall([(rows(target), out)]) == 1.0


def test_rows_without_both_sides_are_left_out_of_recall():
    present = {"a": torch.ones(3, dtype=torch.bool), "b": torch.tensor([True, False, True])}
    out = Output(torch.zeros(3, 3), modalities={"a": torch.eye(3), "b": torch.eye(3)})
    assert pair_recall([(rows(torch.arange(3), present), out)]) == 1.0
    with raises_sentence(InputError, "no test row has both sides"):
        pair_recall([(rows(torch.arange(3), {"a": present["a"], "b": torch.zeros(3, dtype=torch.bool)}), out)])


def test_a_stream_of_pairs_is_learnt_and_measured_by_recall():
    stream = make_stream()
    model = default_model(stream, "er")
    assert isinstance(model, DualEncoder)
    learner = Learner(model, "er", epochs=25, lr=3e-3, **CPU)
    history = learner.fit(stream)
    assert learner.objective == "pairs"
    assert max(history.initial) < 0.3 and min(history.accuracy[-1]) > 0.8
    found = class_accuracy([(b, learner.model(b)) for b in stream.loader(0, "test")])
    assert found != history.accuracy[-1][0]


def test_a_measure_of_ones_own_and_by_name():
    stream = make_stream("classify")
    seen = []

    def always_half(answers):
        seen.extend(len(batch) for batch, out in answers)
        return 0.5

    history = run_continual("finetune", stream, epochs=1, measure=always_half, **CPU)
    assert history.initial == [0.5, 0.5] and all(row == [0.5, 0.5] for row in history.accuracy)
    assert sum(seen) == 3 * sum(len(stream.rows(t, "test")) for t in range(2))
    history = run_continual("finetune", stream, epochs=1, measure="recall_at_1", **CPU)
    assert history.accuracy != run_continual("finetune", stream, epochs=1, **CPU).accuracy
    with raises_sentence(UnknownNameError, "measure", "accuracy"):
        run_continual("finetune", stream, measure="acuracy", **CPU)


@pytest.mark.parametrize("number", [torch.tensor(0.5), np.float32(0.5), np.array(0.5), 0.5])
def test_a_measure_may_give_any_kind_of_number(number, tmp_path):
    history = run_continual("finetune", make_stream("classify"), epochs=1, measure=lambda answers: number, **CPU)
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json").accuracy == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("value", [None, torch.ones(2), "0.5"])
def test_a_measure_that_gives_no_number_is_told_so(value):
    with raises_sentence(InputError, "measure", "one number", type(value).__name__):
        run_continual("finetune", make_stream("classify"), epochs=1, measure=lambda answers: value, **CPU)


def test_a_part_may_answer_with_an_output_of_its_own():
    class Swapped(Part):
        def predict(self, learner, batch, out):
            return Output(out.scores, modalities={name: torch.ones_like(x) for name, x in out.modalities.items()})

    stream = make_stream()
    history = Learner(default_model(stream), [Swapped(), Objective()], epochs=1, **CPU).fit(stream)
    shares = [pair_recall([(b, Output(torch.zeros(len(b), 1), modalities={m: torch.ones(len(b), 2) for m in "ab"}))])
              for b in (stream.loader(t, "test", batch_size=512)[0] for t in range(2))]  # fmt: skip
    assert history.accuracy[-1] == shares


def test_a_model_without_two_sides_is_told_so():
    class One(torch.nn.Module):
        def forward(self, batch):
            return Output(batch.inputs["a"], modalities={"a": batch.inputs["a"]})

    with raises_sentence(InputError, "embeddings of two sides", "['a']"):
        Learner(One(), "finetune", **CPU).fit(make_stream())


def test_rows_of_one_modality_alone():
    batch = rows(torch.arange(4), {"a": torch.tensor([True, True, False, True]), "b": torch.ones(4, dtype=torch.bool)})
    batch.inputs = {"a": torch.ones(4, 2), "b": torch.ones(4, 3)}
    only = alone(batch, "a")
    assert only.target.tolist() == [0, 1, 3] and not only.inputs["b"].any() and only.inputs["a"].all()
    assert only.present["a"].all() and not only.present["b"].any()


def test_cross_entropy_alone_refuses_pairs_in_a_sentence():
    with raises_sentence(InputError, "pairs to tell apart", "er, online_ewc or kdr"):
        run_continual("mas", make_stream(), epochs=1, **CPU)
    # Towers score 0 for every class, whatever their weights: a cross-entropy of one's own would teach them nothing.
    for method in ("dgr", "er_ace"):
        with raises_sentence(InputError, "pairs to tell apart", "er, online_ewc or kdr"):
            run_continual(method, make_stream(), epochs=1, **CPU)


def test_the_fisher_of_pairs_is_the_mean_square_of_each_pairs_own_gradient():
    stream = make_stream(n=120, dtype=torch.float64)
    learner = Learner(default_model(stream, "ewc").double(), "ewc", epochs=1, batch_size=64, **CPU)
    learner.fit(stream)
    batch, model = stream.loader(0, batch_size=64)[0], learner.model.eval()
    found = fisher(learner, stream.loader(0, batch_size=64))
    out = model(batch)
    v, t = (F.normalize(x, dim=1) for x in out.modalities.values())
    squares = dict.fromkeys(found, 0.0)
    for i in range(len(batch)):
        fixed = [torch.where((torch.arange(len(v)) == i)[:, None], x, x.detach()) for x in (v, t)]
        s = model.logit_scale.exp() * fixed[0] @ fixed[1].T
        own = -(s[i].log_softmax(0)[i] + s[:, i].log_softmax(0)[i]) / 2
        grads = torch.autograd.grad(own, list(model.parameters()), retain_graph=True, allow_unused=True)
        for (name, _), g in zip(model.named_parameters(), grads, strict=True):
            squares[name] += 0.0 if g is None else g.square() / len(batch)
    assert found["projections.a.weight"].any()
    for name, value in found.items():
        torch.testing.assert_close(value, squares[name] + torch.zeros_like(value))
    with raises_sentence(InputError, "expected 'auto' or 'empirical', got 'exact'"):
        fisher(learner, stream.loader(0), labels="exact")
