"""TIR holds weights less firmly when the task that owns them is like the current one."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.regularization.tir import SimilarityInformed, raw_means, similarities, task_embedding
from pyfast_mmcl.data import Batch, digits_stream
from pyfast_mmcl.train import Part, default_model
from pyfast_mmcl.train.parts import CrossEntropy
from tests.check import raises_sentence
from tests.continual.regularization.truth import (
    Watch,
    every_label,
    fitted,
    make,
    one_by_one,
    parameters,
    small_stream,
    squared_norm,
)


def unit(*values):
    x = torch.tensor(values, dtype=torch.float64)
    return x / x.norm()


def test_one_pair_is_its_dot_product_and_never_negative():
    a, b = unit(1, 0), unit(3, 4)
    torch.testing.assert_close(similarities([{"m": a}, {"m": b}]), torch.tensor([0.6]).double())
    assert similarities([{"m": a}, {"m": -b}]).tolist() == [0.0]
    assert similarities([{"m": a}]).numel() == 0


def test_several_pairs_are_z_scores_through_a_sigmoid_multiplied_over_modalities():
    g = torch.Generator().manual_seed(1)
    tasks = [{m: unit(*torch.randn(5, generator=g).tolist()) for m in ("image", "text")} for _ in range(4)]
    expected = torch.ones(3).double()
    for m in ("image", "text"):
        pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        dots = torch.stack([tasks[i][m] @ tasks[j][m] for i, j in pairs])
        z = (dots - dots.mean()) / dots.std()
        expected *= torch.stack([torch.sigmoid(z[pairs.index((i, 3))]) for i in range(3)])
    torch.testing.assert_close(similarities(tasks), expected)


def test_a_modality_that_a_task_lacks_says_nothing_and_none_in_common_is_no_similarity():
    a, b, c = ({"image": unit(1, 0), "text": unit(1, 1)}, {"text": unit(1, 0)}, {"image": unit(1, 1)})
    assert similarities([b, c]).tolist() == [0.0]
    torch.testing.assert_close(similarities([a, c]), torch.tensor([0.5**0.5]).double())
    of_three = similarities([a, b, c])
    torch.testing.assert_close(of_three, torch.tensor([0.5**0.5, 0.0]).double())


def test_equal_pairs_have_no_spread_and_count_half():
    a = unit(1, 2)
    assert similarities([{"m": a}, {"m": a}, {"m": a}]).tolist() == [0.5, 0.5]


def test_task_embeddings_are_unit_means_over_the_rows_that_have_the_modality():
    seen = []

    class Look(Part):
        def before_task(self, learner, task):
            batches = list(learner.task_loader())
            for name in ("a", "b"):
                rows = torch.cat([x.inputs[name][x.present[name]] for x in batches]).double()
                embedding = task_embedding(learner, raw_means)[name]
                torch.testing.assert_close(embedding.double(), rows.mean(0) / rows.mean(0).norm())
                seen.append(len(rows))

    fitted(small_stream(), [Look(), CrossEntropy()])
    assert len(seen) == 6 and min(seen[1::2]) < seen[0]


def test_raw_means_count_tokens_and_flatten_everything_else():
    ids = torch.tensor([[3, 1, 0], [3, 3, 0]])
    image = torch.rand(2, 1, 2, 2)
    present = {m: torch.ones(2, dtype=torch.bool) for m in ("image", "text")}
    rows = Batch({"image": image, "text": ids}, torch.zeros(2).long(), torch.zeros(2).long(), present, torch.arange(2))
    means = raw_means(rows)
    assert torch.equal(means["image"], image.flatten(1))
    assert means["text"].tolist() == [[0, 1, 0, 1], [0, 0, 0, 2]]


@pytest.mark.parametrize(
    ("importance", "weighted", "power"), [("mas", squared_norm, 1), ("exact", every_label, 2), ("own", None, 0)]
)
def test_the_penalty_is_its_formula(importance, weighted, power):
    """Ω by its definition row by row, merged by the largest, discounted by the similarity to the owner."""
    tasks, embeddings = [], []

    def own(learner, loader):
        return {n: (p.detach() * (1 + learner.task.id)).abs() for n, p in learner.model.named_parameters()}

    def remember(learner, loader):
        if importance == "own":
            omega = {name: value.double() for name, value in own(learner, loader).items()}
        else:
            omega = one_by_one(learner.model, loader, weighted, power=power)
        total = sum(value.sum() for value in omega.values())
        tasks.append((parameters(learner.model), {name: value / total for name, value in omega.items()}))

    def expected(params):
        firmness = 1 - similarities(embeddings[: len(tasks) + 1])
        value = torch.zeros((), dtype=torch.float64)
        for name, p in params.items():
            largest, owner = torch.stack([omega[name] for _, omega in tasks]).max(0)
            value = value + (largest * firmness[owner] * (p - tasks[-1][0][name]).square()).sum()
        return 1000.0 * value

    watch = Watch(expected, remember, rtol=1e-3)
    stream = small_stream()
    chosen = own if importance == "own" else importance
    learner = make(stream, "tir", watch, lam=1000.0, importance=chosen)
    watch.before_task = lambda learner, task: embeddings.append(task_embedding(learner, raw_means))
    learner.fit(stream)
    assert watch.compared == 4


@pytest.mark.parametrize("alike", [True, False])
def test_identical_tasks_are_not_held_and_unrelated_ones_are(alike):
    vectors = [unit(1, 0), unit(1, 0) if alike else unit(0, 1)]
    sums = []

    class Look(Part):
        def loss(self, learner, batch, out):
            if learner.task.id == 1:
                term = learner.parts[0].loss(learner, batch, out)
                sums.append(sum(float(w.sum()) for w in learner.parts[0]._discounted.values()))
                assert (term.item() == 0) == (alike or learner.step_of_epoch == 0)

    stream = digits_stream("cil", 2, modalities=["image"])
    part = SimilarityInformed(100.0, embed=lambda batch: {"m": vectors[int(batch.task[0])].expand(len(batch), 2)})
    make(stream, [part, CrossEntropy(), Look()]).fit(stream)
    assert len(sums) > 10 and sums[-1] == pytest.approx(0.0 if alike else 1.0, abs=1e-4)


def test_starting_a_task_leaves_the_importance_as_it_was():
    kept = []

    class Look(Part):
        def after_task(self, learner, task, loader):
            kept.append({n: w.clone() for n, w in learner.parts[0].quadratic_.weight.items()})

        def loss(self, learner, batch, out):
            if learner.task.id:
                assert all(torch.equal(w, kept[-1][n]) for n, w in learner.parts[0].quadratic_.weight.items())

    part = SimilarityInformed(100.0)
    fitted(small_stream(), [part, CrossEntropy(), Look()])
    assert len(kept) == 3
    owners = torch.cat([o.flatten() for o in part.owner_.values()])
    assert owners.dtype == torch.int16 and set(owners.tolist()) == {0, 1, 2}
    for name, omega in kept[0].items():
        assert bool((kept[2][name] >= omega).all())
    total = sum(float(w.double().sum()) for w in kept[0].values())
    assert abs(total - 1) < 1e-5


def test_frozen_encoders_can_be_given():
    stream = digits_stream("cil", 2)
    frozen = default_model(stream, seed=9).eval()

    def embed(batch):
        out = frozen(batch)
        return {**out.modalities, "both": out.features}

    part = SimilarityInformed(1.0, embed=embed)
    make(stream, [part, CrossEntropy()]).fit(stream)
    assert set(part.embeddings_[1]) == {"image", "text", "both"}
    assert all(abs(float(x.norm()) - 1) < 1e-5 for x in part.embeddings_[1].values())


def test_a_run_with_own_encoders_is_told_by_their_name():
    learner = make(small_stream(), "tir", embed=raw_means)
    assert learner.method.hyper["embed"] == "raw_means" and learner.method.hyper["importance"] == "mas"


def test_mistakes_are_named():
    for wrong in ("exakt", None, 3):
        with pytest.raises(UnknownNameError, match="exact"):
            SimilarityInformed(1.0, importance=wrong)
    with pytest.raises(UnknownNameError, match="mas"):
        SimilarityInformed(1.0, importance="mass")
    with pytest.raises(InputError, match="embed: expected a function"):
        SimilarityInformed(1.0, embed=3)
    with pytest.raises(InputError, match="lam"):
        SimilarityInformed(-1.0)
    for wrong in ({"m": torch.zeros(16)}, {"m": 3.0}, torch.zeros(16, 2)):
        part = SimilarityInformed(1.0, embed=lambda batch, given=wrong: given)
        with pytest.raises(InputError, match="embed: expected"):
            fitted(small_stream(), [part, CrossEntropy()])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda p: 3, "expected {parameter name: tensor}, got int"),
        (lambda p: {"head": torch.ones(3)}, "unknown parameter"),
        (lambda p: {n: torch.ones(2) for n in p}, "got (2,)"),
        (lambda p: {n: x.detach().numpy() for n, x in p.items()}, "got ndarray"),
        (lambda p: {n: -torch.ones_like(x) for n, x in p.items()}, "at least 0"),
        (lambda p: {n: x * float("nan") for n, x in p.items()}, "at least 0"),
    ],
)
def test_an_importance_that_cannot_weigh_a_penalty_is_refused(wrong, words):
    part = SimilarityInformed(1.0, importance=lambda learner, loader: wrong(dict(learner.model.named_parameters())))
    with raises_sentence(InputError, words):
        fitted(small_stream(), [part, CrossEntropy()])


def test_an_importance_may_carry_a_graph():
    def own(learner, loader):
        return {name: p.abs() for name, p in learner.model.named_parameters()}

    run = fitted(small_stream(), "tir", importance=own)
    assert not any(w.requires_grad for w in run.parts[1].quadratic_.weight.values())
