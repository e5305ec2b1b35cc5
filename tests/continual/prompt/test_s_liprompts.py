"""S-liPrompts: k-means and nearest domains against their definitions, and domains that leave each other alone."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.prompt.s_liprompts import kmeans, prompts_of
from pyfast_mmcl.train import Learner, Part, default_model, run_continual
from tests.check import assert_same_bits, raises_sentence
from tests.continual.battery import make_stream


class Watch(Part):
    """After every task: centres, the answers with the first domain's prompts, and the weights."""

    def __init__(self, rows):
        self.rows, self.centres, self.first, self.weights = rows, [], [], []

    def after_task(self, learner, task, loader):
        part = learner.parts[1]
        self.centres.append(part.centres_.clone())
        learner.model.eval()
        with torch.no_grad(), prompts_of(learner).rows(0):
            self.first.append(learner.model(self.rows).scores)
        learner.model.train()
        self.weights.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})


def fit(scenario="dil", **hyper):
    stream = make_stream(scenario, clip=True)
    learner = Learner(
        default_model(stream, "s_liprompts"),
        "s_liprompts",
        epochs=1,
        device="cpu",
        progress=False,
        hyper={"visual": 2, "textual": 2, **hyper},
    )
    watch = Watch(stream.loader(0, "test", batch_size=64)[0])
    learner.parts.append(watch)
    learner.fit(stream)
    return stream, learner, watch


@pytest.fixture(scope="module")
def run():
    return fit()


def plain_features(learner, rows):
    with torch.no_grad(), prompts_of(learner).rows(-1):
        return learner.model.eval().encode(rows)[0].double()


def test_k_means_finds_blobs():
    g = torch.Generator().manual_seed(0)
    middles = 10 * torch.eye(5, 8)
    rows = (middles.repeat_interleave(40, 0) + 0.1 * torch.randn(200, 8, generator=g))[torch.randperm(200, generator=g)]
    centres = kmeans(rows, 5, torch.Generator().manual_seed(1))
    gaps = torch.cdist(middles, centres).min(1).values
    assert centres.shape == (5, 8) and gaps.max() < 0.2


def test_k_means_ends_where_every_centre_is_the_mean_of_its_rows():
    rows = torch.randn(150, 6, generator=torch.Generator().manual_seed(2))
    centres = kmeans(rows, 5, torch.Generator().manual_seed(1))
    label = torch.cdist(rows.double(), centres.double()).argmin(1)
    for c in range(5):
        torch.testing.assert_close(centres[c], rows[label == c].mean(0), rtol=1e-5, atol=1e-6)
    from sklearn.cluster import KMeans

    ours = float((rows.double() - centres[label].double()).square().sum())
    runs = [KMeans(5, n_init=1, random_state=s).fit(rows.numpy().astype(np.float64)).inertia_ for s in range(10)]
    assert ours <= 1.05 * max(runs)


@pytest.mark.parametrize(("n", "k"), [(1, 5), (3, 5), (5, 5)])
def test_k_means_of_few_or_equal_rows(n, k):
    rows = torch.randn(n, 4, generator=torch.Generator().manual_seed(2))
    centres = kmeans(rows, k, torch.Generator().manual_seed(1))
    assert sorted(map(tuple, centres.tolist())) == sorted(map(tuple, rows.tolist()))
    same = kmeans(torch.ones(7, 4), k, torch.Generator().manual_seed(1))
    assert torch.equal(same, torch.ones(5, 4))


def test_clip_and_the_prompts_of_other_domains_stand_still(run):
    _, learner, watch = run
    first = dict(default_model(make_stream("dil", clip=True), "s_liprompts").named_parameters())
    for name, p in learner.model.named_parameters():
        if name in first:
            assert_same_bits(p, first[name])
        elif ".sets.0." in name:
            assert_same_bits(p, watch.weights[0][name])
            assert not p.requires_grad


def test_with_the_right_domain_answers_do_not_change(run):
    _, _, watch = run
    assert_same_bits(watch.first[0], watch.first[1])


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_a_row_takes_the_prompts_of_the_nearest_centre(metric):
    stream, learner, watch = fit(metric=metric, centres=3)
    part = learner.parts[1]
    assert part.centres_.shape[0] == 6 and part.domain_.tolist() == [0] * 3 + [1] * 3
    assert_same_bits(watch.centres[1][:3], watch.centres[0])
    rows = stream.loader(1, "test", batch_size=64)[0]
    v, centres = plain_features(learner, rows), part.centres_.double()
    power = 1 if metric == "l1" else 2
    expected = [part.domain_[int(((x - centres).abs() ** power).sum(1).argmin())].item() for x in v]
    way = part.way(learner, rows)
    assert way.tolist() == expected
    answers = learner.predict(rows)
    for w in way.unique().tolist():
        with torch.no_grad(), prompts_of(learner).rows(w):
            one = learner.model(rows)
        torch.testing.assert_close(answers[way == w], one.scores[way == w], rtol=1e-4, atol=1e-4)


def test_a_row_that_says_its_task_takes_its_prompts():
    stream, learner, _ = fit("til")
    for task in range(2):
        rows = stream.loader(task, "test", batch_size=64)[0]
        assert learner.parts[1].way(learner, rows).eq(task).all()


def test_the_centres_are_those_of_the_rows_without_prompts(run):
    stream, learner, _ = run
    part = learner.parts[1]
    rows = stream.loader(0, "train", batch_size=64)[0]
    v, centres = plain_features(learner, rows), part.centres_[:5].double()
    label = torch.cdist(v, centres).argmin(1)
    for c in label.unique().tolist():
        torch.testing.assert_close(centres[c], v[label == c].mean(0), rtol=1e-4, atol=1e-5)


def test_prompts_learn_a_domain_and_keep_it():
    history = run_continual(
        "s_liprompts", make_stream("til", clip=True), epochs=12, lr=2e-2, batch_size=12, device="cpu", progress=False
    )
    terms = [sum(entry["terms"].values()) for entry in history.losses if entry["task"] == 0]
    assert terms[-1] < terms[0] and history.accuracy[1][0] == history.accuracy[0][0]


def test_what_it_cannot_use_is_refused():
    with pytest.raises(UnknownNameError, match="l1"):
        run_continual("s_liprompts", make_stream("dil", clip=True), metric="l3")
    stream = make_stream("dil")
    with raises_sentence(InputError, "s_liprompts", "CLIP"):
        run_continual("s_liprompts", stream, model=default_model(stream), epochs=1, device="cpu", progress=False)


def test_it_answers_for_no_rows_and_takes_any_seed():
    stream = make_stream("dil", clip=True)
    learner = Learner(
        default_model(stream, "s_liprompts"), "s_liprompts", epochs=1, device="cpu", progress=False, seed=2**64 - 1
    )
    learner.fit(stream)
    rows = stream.loader(0, "test", batch_size=12)[0]
    assert learner.predict(rows.select(slice(0, 0))).shape == (0, stream.n_classes)
