"""Deep generative replay: its loss in float64, what the generator is taught, and its two ends r = 1 and r = 1/t."""

import copy
from types import SimpleNamespace

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.replay.dgr import ScholarLoss
from pyfast_mmcl.data import Batch, digits_stream
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner, Part, default_model, run_continual
from pyfast_mmcl.train.generator import GeneratedRows
from pyfast_mmcl.train.registry import get_recipe
from tests.check import assert_same_bits, raises_sentence
from tests.continual.regularization.truth import fitted, small_stream
from tests.continual.replay import restated
from tests.continual.replay.truth import flat, state_of

SMALL = {"hidden": 16, "latent": 8, "generator_epochs": 2}


@pytest.fixture(autouse=True)
def one_thread(seeded):
    torch.set_num_threads(1)


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize(("share", "task", "r"), [(None, 0, 1.0), (None, 2, 1 / 3), (0.6, 2, 0.6)])
def test_loss_is_that_of_the_card(labels, share, task, r):
    batch, z = restated.random_batch(), restated.scores(23)
    said = restated.scores(9, seed=1).detach()
    batch.extras = {"scores of the earlier model": said}
    learner = restated.learner(task=SimpleNamespace(id=task))
    got = ScholarLoss(share, labels, 2.0).loss(learner, batch, Output(z))
    fresh = restated.cross_entropy(z[:14], batch.target[:14])
    if labels == "hard":
        old = restated.cross_entropy(z[14:], batch.target[14:])
    else:
        rows = zip(said, z[14:], strict=True)
        pairs = [(restated.log_softmax(p / 2), restated.log_softmax(q / 2)) for p, q in rows]
        old = 4 * torch.stack([restated.kl(p, q) for p, q in pairs]).mean()
    expected = r * fresh + (1 - r) * old
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    ours, theirs = (torch.autograd.grad(x, z, retain_graph=True)[0] for x in (got, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_with_a_share_of_one_it_is_fine_tuning():
    stream = small_stream()
    ours, theirs = fitted(stream, "dgr", share=1), fitted(stream, "finetune")
    assert_same_bits(flat(ours), flat(theirs))
    assert len(ours.parts[0].source_) == 0


class Listen(Part):
    """Looks at every batch after the rows of earlier tasks have joined it."""

    def __init__(self):
        self.batches, self.teachers = [], {}

    def extend(self, learner, batch):
        self.batches.append((learner.task.id, batch))
        self.teachers.setdefault(learner.task.id, copy.deepcopy(learner.model).eval())
        return batch


def test_made_up_rows_carry_what_the_earlier_model_says_of_them():
    stream, listen = small_stream(), Listen()
    fitted(stream, "dgr", listen, epochs=2, **SMALL)
    assert all(len(b) == b.fresh for task, b in listen.batches if task == 0)
    for task, batch in listen.batches:
        if task == 0:
            continue
        assert len(batch) == 2 * batch.fresh
        old = batch.select(slice(batch.fresh, None))
        said = listen.teachers[task](old).scores
        torch.testing.assert_close(old.extras["scores of the earlier model"], said)
        assert torch.equal(old.target, said.argmax(1)) and bool((old.index == -1).all())
        assert bool((old.task < task).all()) and bool((old.task >= 0).all())
        assert bool(torch.stack(list(old.present.values())).any(0).all())
    assert {int(t) for _, b in listen.batches for t in b.task[b.fresh :]} == {0, 1}


def test_what_it_keeps_does_not_grow_with_the_rows_it_has_seen():
    sizes = {}
    for rows in (120, 240):
        run = fitted(small_stream(rows=rows), "dgr", **SMALL)
        sizes[rows] = [x.numel() for x in state_of(run).values() if isinstance(x, torch.Tensor)]
        assert sum(run.parts[0].source_.counts_) == sum(task.n_train for task in small_stream(rows=rows).tasks)
    assert sizes[120] == sizes[240]


def rows_of(target, **how):
    n = len(target)
    x = torch.nn.functional.one_hot(target, 6).float() * 4 + 0.1 * torch.randn(n, 6)
    present = torch.ones(n, dtype=torch.bool)
    return Batch({"a": x}, target, torch.full((n,), -1), {"a": present}, torch.arange(n), **how)


def taught(source, *tasks):
    learner = SimpleNamespace(device=torch.device("cpu"), generator=torch.Generator().manual_seed(0))
    for i, target in enumerate(tasks):
        source.learn(learner, SimpleNamespace(id=i), [rows_of(target)])
    return source


def test_a_generator_remembers_what_it_was_taught_first():
    """Its own rows keep the first task alive; told to look at the second alone, it makes up less of the first."""
    first, second = torch.arange(200) % 3, 3 + torch.arange(200) % 3
    how = {"condition": "task", "epochs": 60, "hidden": 64, "latent": 8}
    kept = {}
    for share in (None, 1.0):
        source = taught(GeneratedRows(share=share, **how), first, second)
        drawn = source.sample(600, torch.Generator().manual_seed(1))
        nearest = torch.cdist(drawn.inputs["a"], 4 * torch.eye(6)).argmin(1)
        kept[share] = float(((nearest < 3) == (drawn.task == 0))[drawn.task == 0].float().mean())
        assert 240 < int((drawn.task == 0).sum()) < 360 and bool((drawn.target == -1).all())
    assert kept[None] > 0.9 and kept[None] >= kept[1.0]


def test_classes_come_as_often_as_they_were_seen_and_know_their_task():
    target = torch.cat([torch.zeros(150, dtype=torch.int64), torch.full((50,), 2)])
    source = taught(GeneratedRows(condition="class", epochs=1, hidden=8, latent=2), target, torch.full((200,), 5))
    drawn = source.sample(4000, torch.Generator().manual_seed(0))
    share = drawn.target.bincount(minlength=6).double() / 4000
    torch.testing.assert_close(share, torch.tensor([150, 0, 50, 0, 0, 200]).double() / 400, rtol=0, atol=0.03)
    assert bool((drawn.task == (drawn.target == 5)).all())
    taught(source, torch.zeros(10, dtype=torch.int64), torch.zeros(10, dtype=torch.int64))
    again = source.sample(50, torch.Generator().manual_seed(0))
    assert bool((again.task[again.target == 0] == -1).all())  # of several tasks: nobody says which


def test_it_remembers_digits_that_fine_tuning_forgets():
    stream, last = digits_stream("cil", 2, test=0.5), {}
    for method in ("finetune", "dgr"):
        history = run_continual(method, stream, epochs=6, lr=5e-3, device="cpu", progress=False)
        last[method] = history.accuracy[1][0]
    assert last["dgr"] > last["finetune"] + 0.2


def test_rows_scored_by_task_need_a_task():
    stream = small_stream("til")
    with raises_sentence(InputError, "condition='task'"):
        fitted(stream, "dgr", condition="none", **SMALL)
    for condition in ("task", "class"):
        assert flat(fitted(stream, "dgr", condition=condition, **SMALL)).isfinite().all()


def test_choices_that_do_not_fit_are_refused():
    recipe = get_recipe("dgr")
    for share in (0, 1.5, "half"):
        with raises_sentence(InputError, "share", repr(share)):
            recipe.build(share=share)
    with raises_sentence(InputError, "labels of dgr"):
        recipe.build(labels="softish")
    with raises_sentence(InputError, "condition of the generator"):
        recipe.build(condition="domain")
    with raises_sentence(InputError, "no rows yet"):
        GeneratedRows().sample(3)
    with raises_sentence(InputError, "one class per row"):
        answers = rows_of(torch.zeros(4, dtype=torch.int64))
        answers.target = torch.zeros(4, 2, dtype=torch.int64)
        learner = SimpleNamespace(device=torch.device("cpu"), generator=torch.Generator())
        GeneratedRows(condition="class").learn(learner, SimpleNamespace(id=0), [answers])


def test_the_source_is_one_for_any_replay():
    """GeneratedRows with classes serves plain experience replay, without a teacher."""
    from pyfast_mmcl.train.parts import CrossEntropy, Replay

    stream = small_stream()
    source = GeneratedRows(condition="class", epochs=60, batch_size=16, hidden=64, latent=8)
    method = [Replay(source=source), CrossEntropy()]
    settings = {"epochs": 20, "batch_size": 16, "lr": 0.03, "device": "cpu", "progress": False}
    learner = Learner(default_model(stream, width=8), method, **settings)
    plain = Learner(default_model(stream, width=8), "finetune", **settings)
    assert sum(learner.fit(stream).accuracy[-1][:2]) > sum(plain.fit(stream).accuracy[-1][:2])
