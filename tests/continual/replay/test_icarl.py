"""iCaRL against the paper's formulas written out: its losses, its exemplars, its nearest means."""

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.replay.icarl import IncrementalLoss
from pyfast_mmcl.data import digits_stream, har_stream
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner, Part, default_model, run_continual
from tests.check import raises_sentence
from tests.continual.replay import restated


class Scores(nn.Module):
    """Scores that are a table."""

    def __init__(self, rows, seed):
        super().__init__()
        self.table = nn.Parameter(restated.scores(rows, seed=seed).detach())

    def forward(self, batch):
        return Output(self.table)


class Told:
    """What a task says of itself."""

    def __init__(self, number, classes):
        self.id, self.classes = number, classes


@pytest.mark.parametrize("kind", ["bce", "ce_kd"])
@pytest.mark.parametrize("earlier", [(), (0, 1, 3)])
def test_the_losses_are_the_papers(kind, earlier):
    batch, now = restated.random_batch(), [c for c in (0, 1, 2, 3, 4) if c not in earlier]
    batch.target = batch.target.clamp(max=4)
    seen = sorted((*earlier, *now))
    model, teacher = Scores(len(batch), 1), Scores(len(batch), 2)
    part = IncrementalLoss(kind, 2.0)
    if earlier:
        part.teacher_.take(teacher)
    told = restated.learner(model=model, classes_seen=tuple(seen), task=Told(1, tuple(now)))
    ours = part.loss(told, batch, model(batch))
    rows = []
    for z, q, y in zip(model.table, teacher.table.detach(), batch.target.tolist(), strict=True):
        if kind == "bce":
            loss = 0
            for c in seen:
                target = torch.sigmoid(q[c]) if c in earlier else torch.tensor(float(c == y)).double()
                g = torch.sigmoid(z[c])
                loss = loss - target * g.log() - (1 - target) * (1 - g).log()
        else:
            loss = -restated.log_softmax(z[seen])[seen.index(y)]
            if earlier:
                old = list(earlier)
                loss = loss + restated.kl(restated.log_softmax(q[old] / 2), restated.log_softmax(z[old] / 2))
        rows.append(loss)
    truth = torch.stack(rows).mean()
    torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(value, model.table)[0] for value in (ours, truth)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-12)


class Watch(Part):
    """The exemplars after every task, the features they were chosen by, and what every epoch trained on."""

    def __init__(self):
        self.kept, self.trained = [], {}

    def loss(self, learner, batch, out):
        place = (learner.task.id, learner.epoch)
        self.trained.setdefault(place, []).append(batch.index[batch.fresh :])

    def after_task(self, learner, task, loader):
        learner.model.eval()
        with torch.no_grad():
            rows = [(batch.index, batch.target, learner.model(batch).features.double()) for batch in loader]
        self.kept.append((learner.parts[0].memory_.all(), [torch.cat(column) for column in zip(*rows, strict=True)]))


@pytest.fixture(scope="module")
def watched():
    stream = digits_stream(n_tasks=2, missing={"text": 0.2})
    run = Learner(default_model(stream), "icarl", epochs=2, device="cpu", progress=False, hyper={"capacity": 64})
    watch = Watch()
    run.parts.append(watch)
    run.fit(stream)
    return stream, run, watch


def herded(features, m):
    """Algorithm 4 of the paper, by its definition."""
    unit = features / features.norm(dim=1, keepdim=True)
    mean, chosen = unit.mean(0), []
    for k in range(1, m + 1):
        picked = unit[chosen].sum(0)
        gaps = (mean - (unit + picked) / k).norm(dim=1)
        gaps[chosen] = float("inf")
        chosen.append(int(gaps.argmin()))
    return chosen


def test_exemplars_are_herded_and_balanced(watched):
    _, _, watch = watched
    for kept, (index, target, features) in watch.kept:
        counts = kept.target.bincount(minlength=int(kept.target.max()) + 1)
        assert len(kept) == 64 and int(counts.max() - counts.min()) <= 1
        for c in target.unique().tolist():
            mine = (target == c).nonzero().flatten()
            m = int(counts[c])
            chosen = index[mine[herded(features[mine], m)]]
            assert set(chosen.tolist()) == set(kept.index[kept.target == c].tolist())


def test_exemplars_that_stay_are_the_front_of_their_order(watched):
    (first, (index, target, features)), (second, _) = watched[2].kept
    for c in first.target.unique().tolist():
        left = second.index[second.target == c]
        mine = (target == c).nonzero().flatten()
        front = index[mine[herded(features[mine], len(left))]]
        assert 0 < len(left) < int((first.target == c).sum()) and set(front.tolist()) == set(left.tolist())


def test_an_epoch_goes_once_through_the_exemplars(watched):
    _, _, watch = watched
    first, _ = watch.kept[0]
    for (task, _), drawn in watch.trained.items():
        drawn = torch.cat(drawn).sort().values
        assert torch.equal(drawn, first.index.sort().values) if task else len(drawn) == 0
    orders = [torch.cat(watch.trained[1, epoch]) for epoch in (0, 1)]
    assert not torch.equal(*orders)


def test_the_answer_is_the_nearest_mean_of_exemplars(watched):
    stream, run, _ = watched
    model, kept = run.model.eval(), run.parts[0].memory_.all()
    rows = stream.loader(1, "test", batch_size=60)[0]
    with torch.no_grad():
        phi = {name: model(some).features.double() for name, some in (("kept", kept), ("rows", rows))}
    phi = {name: x / x.norm(dim=1, keepdim=True) for name, x in phi.items()}
    answers = run.predict(rows)
    for i, x in enumerate(phi["rows"]):
        gaps = []
        for c in range(10):
            mean = phi["kept"][kept.target == c].mean(0)
            gaps.append((x - mean / mean.norm()).square().sum())
        torch.testing.assert_close(-answers[i].double(), torch.stack(gaps), rtol=1e-5, atol=1e-6)


def test_classes_that_come_back_have_exemplars_of_every_task():
    stream = digits_stream("dil", 2)
    run = Learner(default_model(stream), "icarl", epochs=1, device="cpu", progress=False)
    run.fit(stream)
    kept = run.parts[0].memory_.all()
    counts = torch.stack([kept.target[kept.task == t].bincount(minlength=10) for t in range(2)])
    assert counts.shape == (2, 10) and int(counts.max() - counts.min()) <= 1 and int(counts.sum()) == 200


def test_a_task_id_leaves_its_classes_only():
    stream = digits_stream("til", 2)
    run = Learner(default_model(stream), "icarl", epochs=1, device="cpu", progress=False)
    run.fit(stream)
    rows = stream.loader(1, "test", batch_size=60)[0]
    assert (run.predict(rows)[:, :5] < -1e30).all() and (run.predict(rows)[:, 5:] > -5).all()


def test_what_it_does_not_know_is_refused():
    with pytest.raises(UnknownNameError, match="ce_kd"):
        run_continual("icarl", digits_stream(), loss="ce_dk")
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = bare

        def forward(self, batch):
            return self.layers(batch.inputs["image"])

    with raises_sentence(InputError, "icarl", "features"):
        run_continual("icarl", digits_stream(n_tasks=2), model=Bare(), epochs=1, device="cpu", progress=False)


@pytest.mark.parametrize("loss", ["bce", "ce_kd"])
def test_scores_that_do_not_fit_the_classes_are_refused(loss):
    part, out = IncrementalLoss(loss, 2.0), Output(torch.zeros(2, 3))
    batch = restated.random_batch(n=2, fresh=2, classes=3)
    narrow = restated.learner(classes_seen=(0, 1, 2, 3), task=Told(0, (0, 1, 2, 3)))
    with raises_sentence(InputError, "3 classes", "class 3"):
        part.loss(narrow, batch, out)
    with raises_sentence(InputError, "icarl", "one class per row", "(2, 4, 3)"):
        part.loss(narrow, batch, Output(torch.zeros(2, 4, 3)))


@pytest.mark.parametrize("loss", ["bce", "ce_kd"])
def test_keeps_classes_that_fine_tuning_loses_on_digits(loss):
    history = run_continual("icarl", digits_stream(), epochs=4, device="cpu", progress=False, loss=loss)
    # .82 and .89 after ten epochs; finetune .18.
    assert history.summary()["last_accuracy"] > 0.45 and history.summary()["forgetting"] < 0.4


def test_keeps_activities_that_fine_tuning_loses(data_dir):
    stream = har_stream(folder=data_dir)
    runs = {m: run_continual(m, stream, epochs=2, device="cpu", progress=False) for m in ("finetune", "icarl")}
    last = {name: history.summary()["last_accuracy"] for name, history in runs.items()}
    assert last["finetune"] < 0.55 < last["icarl"] - 0.05
