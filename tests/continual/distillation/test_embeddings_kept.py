"""Feature and relational distillation are their formulas, over the rows that have what is held."""

import itertools

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.losses import FeatureDistillation
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner, default_model, run_continual
from pyfast_mmcl.train.embeddings import EmbeddingDistillation
from tests.check import raises_sentence
from tests.continual.distillation.runs import Look, doubled, first_steps, fitted_with, small_stream


def cosine(a, b):
    return sum(1 - float(x @ y / (x.norm() * y.norm()).clamp(min=1e-300)) for x, y in zip(a, b, strict=True)) / len(a)


def squares(a, b):
    return float((a - b).square().sum(1).mean())


def huber(x, y):
    gap = abs(float(x) - float(y))
    return 0.5 * gap**2 if gap < 1 else gap - 0.5


def distances(a, b):
    """RKD-D: Huber of all pairwise distances, each side over its mean positive one."""
    sides = []
    for x in (a, b):
        d = torch.stack([torch.stack([(p - q).norm() for q in x]) for p in x])
        sides.append(d / d[d > 0].mean())
    return sum(map(huber, *(side.flatten() for side in sides))) / len(a) ** 2


def angles(a, b):
    """RKD-A: Huber of the cosines of all angles i j k at j."""

    def corner(x, i, j, k):
        e, f = x[i] - x[j], x[k] - x[j]
        size = e.norm() * f.norm()
        return e @ f / size if size > 0 else size

    n = len(a)
    return sum(huber(corner(a, *ijk), corner(b, *ijk)) for ijk in itertools.product(range(n), repeat=3)) / n**3


def held(out, batch, of):
    """[(embeddings, rows)] of what is held, by the definition."""
    joint = [] if of == "modalities" else [(out.features, torch.ones(len(batch), dtype=torch.bool))]
    single = [] if of == "features" else [(e, batch.present[m]) for m, e in out.modalities.items()]
    return joint + single


@pytest.mark.parametrize("of", ["features", "modalities", "both"])
@pytest.mark.parametrize(("measure", "formula"), [("cosine", cosine), ("mse", squares)])
def test_feature_kd_is_its_formula(measure, formula, of):
    def look(learner, batch, out, terms, old):
        before = held(old(doubled(batch)), batch, of)
        ours = held(out, batch, of)
        values = [formula(e[rows].double(), f[rows]) for (e, rows), (f, _) in zip(ours, before, strict=True)]
        growth = (2 * learner.task.id / 2) ** 0.5
        expected = 5.0 * growth * sum(values) / len(values)
        assert float(terms["feature_kd"]) == pytest.approx(expected, rel=1e-3, abs=2e-6)

    _, watch = fitted_with(look, small_stream(), "feature_kd", distance=measure, of=of, lr=0.03)
    assert watch.looked == 4


def test_the_weight_stays_where_it_is_told_not_to_grow():
    def look(learner, batch, out, terms, old):
        expected = 2.0 * squares(out.features.double(), old(doubled(batch)).features)
        assert float(terms["feature_kd"]) == pytest.approx(expected, rel=1e-3, abs=1e-6)

    settings = {"distance": "mse", "lam": 2.0, "growing": False}
    assert fitted_with(look, small_stream(), "feature_kd", lr=0.03, **settings)[1].looked == 4


@pytest.mark.parametrize("normalize", [False, True])
def test_relation_kd_is_its_formula(normalize):
    def look(learner, batch, out, terms, old):
        sides = [out.features.double(), old(doubled(batch)).features]
        if normalize:
            sides = [x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) for x in sides]
        expected = 0.5 * (3.0 * distances(*sides) + 2.0 * angles(*sides))
        assert float(terms["relation_kd"]) == pytest.approx(expected, rel=2e-3, abs=1e-5)

    settings = {"lam": 0.5, "distance_weight": 3.0, "normalize": normalize, "batch_size": 8, "lr": 0.03}
    assert fitted_with(look, small_stream(rows=60), "relation_kd", **settings)[1].looked == 4


@pytest.mark.parametrize("method", ["feature_kd", "relation_kd"])
@pytest.mark.parametrize("scenario", ["cil", "dil", "til"])
def test_the_term_is_nothing_while_student_and_teacher_agree(method, scenario):
    firsts = first_steps(small_stream(scenario), method)
    assert firsts[0][method] is None
    assert all(abs(float(terms[method].detach())) < 1e-5 and terms[method].requires_grad for terms in firsts[1:])


@pytest.mark.parametrize("method", ["feature_kd", "relation_kd"])
def test_two_towers_hold_their_sides_on_a_stream_of_pairs(method):
    g = torch.Generator().manual_seed(0)
    target = torch.arange(64) % 4
    rows = {m: torch.randn(64, 6, generator=g) + target[:, None] for m in ("a", "b")}
    stream = Stream.from_dataset(
        Records(rows, target), scenario="dil", domains=torch.arange(64) // 32, objective="pairs", missing={"b": 0.2}
    )
    watch = Look()
    run = Learner(default_model(stream, "kdr", width=8), method, epochs=2, batch_size=16, progress=False, device="cpu")
    run.parts.append(watch)
    run.fit(stream)
    assert watch.firsts[0][method] is None and abs(float(watch.firsts[1][method].detach())) < 1e-5
    assert run.history.losses[-1]["terms"][method] > 1e-6


def test_a_tower_that_has_nothing_of_a_row_is_left_out():
    part = EmbeddingDistillation("feature_kd", FeatureDistillation("cosine"), 1.0)
    assert part.embeddings(Output(torch.zeros(2, 3), None, {"a + b": torch.ones(2, 4)})).keys() == {"a + b"}


def test_a_strong_weight_holds_the_features_where_they_were():
    moved = []
    for lam in (0.0, 100.0):
        distance = []

        def look(learner, batch, out, terms, old, kept=distance):
            kept.append(squares(out.features.double(), old(doubled(batch)).features))

        fitted_with(look, small_stream(), "feature_kd", lam=lam, distance="mse", epochs=4, lr=0.01)
        moved.append(distance[-1])
    assert moved[1] < 0.2 * moved[0]


def test_mistakes_are_named():
    with pytest.raises(UnknownNameError, match="modalities"):
        run_continual("feature_kd", small_stream(), of="modality", progress=False)
    with pytest.raises(UnknownNameError, match="cosine"):
        run_continual("feature_kd", small_stream(), distance="cos", progress=False)
    with raises_sentence(InputError, "lam"):
        run_continual("relation_kd", small_stream(), lam=-1.0, progress=False)
    part = EmbeddingDistillation("relation_kd", FeatureDistillation(), 1.0)
    with raises_sentence(InputError, "relation_kd", "features"):
        part.embeddings(Output(torch.zeros(2, 3)))
