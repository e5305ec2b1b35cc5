"""Mixture-of-experts adapters: what trains, what freezes, which way a row goes, what later tasks leave alone."""

from types import SimpleNamespace

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.architecture.moe_adapters import Experts, experts_of
from pyfast_mmcl.models import Output
from pyfast_mmcl.models.heads import is_masked
from pyfast_mmcl.train import Learner, Part, default_model, run_continual
from pyfast_mmcl.train.clip_ways import TaskObjective
from tests.check import assert_same_bits, raises_sentence
from tests.continual.battery import make_stream


class AfterEachTask(Part):
    """Answers, ways and weights after every task."""

    def __init__(self, rows):
        self.rows, self.answers, self.frozen, self.weights, self.usage = rows, [], [], [], []

    def after_task(self, learner, task, loader):
        assert learner.model.training
        self.answers.append(learner.predict(self.rows))
        blocks = experts_of(learner).every_block()
        self.usage.append([b.usage.clone() for b in blocks])
        self.frozen.append([{e for e in range(len(b.bank)) if not b.bank.down[e].requires_grad} for b in blocks])
        self.weights.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})


def fit(scenario, epochs=1, **hyper):
    stream = make_stream(scenario, clip=True)
    small = {"experts": 4, "hidden": 8, **hyper}
    learner = Learner(
        default_model(stream, "moe_adapters"), "moe_adapters", epochs=epochs, device="cpu", progress=False, hyper=small
    )
    watch = AfterEachTask(stream.loader(0, "test", batch_size=64)[0])
    learner.parts.append(watch)
    learner.fit(stream)
    return stream, learner, watch


@pytest.fixture(scope="module")
def with_ids():
    return fit("til", freeze=4)


@pytest.fixture(scope="module")
def hidden():
    return fit("dil", miss=0.3)


def test_clip_stands_still_and_the_experts_learn(hidden):
    _, learner, watch = hidden
    first = dict(default_model(make_stream("dil", clip=True), "moe_adapters").named_parameters())
    for name, p in learner.model.named_parameters():
        if name in first:
            assert_same_bits(p, first[name])
    earlier = watch.weights[0]
    moved = {name for name, p in watch.weights[1].items() if name not in earlier or not torch.equal(p, earlier[name])}
    assert any(".bank.up." in name for name in moved) and any(".routers.1." in name for name in moved)


def test_answers_of_an_old_task_stay_when_its_experts_are_frozen(with_ids):
    """With the task's id, and every expert frozen that it used: the routers of later tasks are others."""
    _, learner, watch = with_ids
    torch.testing.assert_close(watch.answers[1], watch.answers[0], rtol=1e-5, atol=1e-5)
    assert_same_bits(watch.answers[1].argmax(1), watch.answers[0].argmax(1))
    assert experts_of(learner).n_ways == 2


def test_experts_left_free_do_change_them():
    _, _, watch = fit("til", freeze=0, epochs=2)
    assert (watch.answers[1] - watch.answers[0]).abs().max() > 1e-4


def test_the_most_used_freeze_in_every_block(hidden):
    _, _, watch = hidden
    for usage, frozen in zip(watch.usage[0], watch.frozen[0], strict=True):
        assert frozen == set(sorted(range(4), key=lambda e: (-int(usage[e]), e))[:2])
    for earlier, later in zip(watch.frozen[0], watch.frozen[1], strict=True):
        assert earlier <= later
    held = [name for name in watch.weights[0] if ".bank." in name]
    for i, block in enumerate(watch.frozen[0][:2]):
        for e in block:
            names = [n for n in held if f"blocks.image.{i}.bank." in n and n.endswith(f".{e}")]
            assert len(names) == 4
            for name in names:
                assert_same_bits(watch.weights[1][name], watch.weights[0][name])


def test_rows_go_the_way_of_the_autoencoder_that_knows_them(hidden):
    stream, learner, _ = hidden
    part = learner.parts[1]
    rows = stream.loader(1, "test", batch_size=64)[0]
    assert rows.task.eq(-1).all()
    frozen = learner.model.eval()
    with torch.no_grad(), experts_of(learner).rows(-1):
        plain = frozen(rows)
    way = part.way(learner, rows)
    assert torch.equal(way, part.tasks_.task(plain.features))
    answers = learner.predict(rows)
    for w in way.unique().tolist():
        with torch.no_grad(), experts_of(learner).rows(w):
            one = learner.model(rows)
        torch.testing.assert_close(answers[way == w], one.scores[way == w], rtol=1e-4, atol=1e-4)


def test_a_row_that_nobody_knows_is_answered_by_clip_as_it_was(hidden):
    stream, learner, _ = hidden
    part, rows = learner.parts[1], stream.loader(0, "test", batch_size=64)[0]
    limits = part.tasks_.limits_
    part.tasks_.limits_ = [x * 1e-9 for x in limits]
    try:
        assert part.way(learner, rows).eq(-1).all()
        with torch.no_grad():
            plain = default_model(make_stream("dil", clip=True), "moe_adapters").eval()(rows)
        torch.testing.assert_close(learner.predict(rows), plain.scores, rtol=1e-4, atol=1e-4)
    finally:
        part.tasks_.limits_ = limits


def test_a_task_that_has_not_come_is_answered_by_clip_as_it_was():
    stream = make_stream("til", clip=True)
    learner = Learner(
        default_model(stream, "moe_adapters"),
        "moe_adapters",
        epochs=1,
        device="cpu",
        progress=False,
        hyper={"experts": 4, "hidden": 8},
    )
    found = []

    class Ask(Part):
        def after_task(self, learner, task, loader):
            found.append(learner.parts[1].way(learner, stream.loader(1, "test", batch_size=64)[0]))

    learner.parts.append(Ask())
    learner.fit(stream)
    assert found[0].eq(-1).all() and found[1].eq(1).all()


def test_one_router_has_one_way_and_no_autoencoder():
    _, learner, _ = fit("cil", routers="one", experts=2, freeze=0)
    assert experts_of(learner).n_ways == 1 and len(learner.parts[1].tasks_) == 0
    assert all(p.requires_grad for b in experts_of(learner).every_block() for p in b.parameters())


def test_the_loss_is_smoothed_cross_entropy_over_the_classes_of_the_task():
    scores = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([1, 4, 4, 2, 1])
    task = SimpleNamespace(classes=(1, 2, 4))
    learner = SimpleNamespace(objective="classify", task=task)
    batch = SimpleNamespace(target=target, fresh=5, device=scores.device)
    ours = TaskObjective(0.2).loss(learner, batch, Output(scores))
    total = 0
    for z, y in zip(scores[:, [1, 2, 4]], target.tolist(), strict=True):
        p = z.exp() / z.exp().sum()
        for place, c in enumerate((1, 2, 4)):
            total = total - (0.8 * (c == y) + 0.2 / 3) * p[place].log()
    torch.testing.assert_close(ours, total / 5, rtol=1e-12, atol=1e-12)


def test_experts_learn_a_task_and_keep_it():
    history = run_continual(
        "moe_adapters",
        make_stream("til", clip=True),
        epochs=6,
        lr=2e-2,
        batch_size=12,
        device="cpu",
        progress=False,
        experts=4,
        hidden=16,
        freeze=4,
    )
    terms = [sum(entry["terms"].values()) for entry in history.losses if entry["task"] == 0]
    assert terms[-1] < 0.9 * terms[0] and history.accuracy[0][0] > history.initial[0]
    assert history.accuracy[1][0] == history.accuracy[0][0]


def test_classes_of_other_tasks_stay_masked(with_ids):
    stream, learner, _ = with_ids
    rows = stream.loader(0, "test", batch_size=64)[0]
    own = list(stream.tasks[0].classes)
    masked = is_masked(learner.predict(rows))
    assert not masked[:, own].any() and int((~masked).sum()) == len(rows) * len(own)


def test_what_it_cannot_use_is_refused():
    with pytest.raises(UnknownNameError, match="task"):
        run_continual("moe_adapters", make_stream("cil", clip=True), routers="tasks")
    with raises_sentence(InputError, "code", "0"):
        Experts("task", 2, 0, 0.05, {})
    with raises_sentence(InputError, "smoothing"):
        TaskObjective(1.0)
    stream = make_stream("cil")
    with raises_sentence(InputError, "moe_adapters", "CLIP", "MultimodalClassifier"):
        run_continual("moe_adapters", stream, model=default_model(stream), epochs=1, device="cpu", progress=False)


def test_it_answers_before_it_has_learnt_and_for_no_rows_and_takes_any_seed():
    stream = make_stream("dil", clip=True)
    model, rows = default_model(stream, "moe_adapters"), stream.loader(0, "test", batch_size=12)[0]
    small = {"experts": 4, "hidden": 8}
    learner = Learner(model, "moe_adapters", epochs=1, device="cpu", progress=False, seed=2**70, hyper=small)
    with torch.no_grad():
        torch.testing.assert_close(learner.predict(rows), model.eval()(rows).scores)
    learner.fit(stream)
    assert learner.predict(rows.select(slice(0, 0))).shape == (0, stream.n_classes)
