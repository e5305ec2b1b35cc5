"""Early stopping ends a task in time and brings the best weights back; epochs may differ by task."""

import math

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train import Learner, default_model
from pyfast_mmcl.train.early import EarlyStop
from tests.check import raises_sentence

CPU = {"device": "cpu", "progress": False}


def make_stream(validation=0.4):
    g = torch.Generator().manual_seed(1)
    target = torch.arange(160) % 4
    return Stream.from_dataset(
        Records({"a": torch.randn(160, 5, generator=g) + target[:, None]}, target), n_tasks=2, validation=validation
    )


def test_it_waits_for_as_many_epochs_as_it_has_patience():
    model, early = torch.nn.Linear(1, 1), EarlyStop(2)
    stopped = []
    for number, value in enumerate([0.2, 0.5, 0.5, 0.6, 0.1, 0.6]):
        torch.nn.init.constant_(model.weight, number)
        early.look(value, model)
        stopped.append(early.stopped)
    assert stopped == [False, False, False, False, False, True]
    early.restore(model)
    assert model.weight.item() == 3
    early.start()
    assert not early.stopped


def test_its_state_goes_through_a_checkpoint():
    model, early, other = torch.nn.Linear(1, 1), EarlyStop(1), EarlyStop(1)
    torch.nn.init.constant_(model.weight, 7)
    early.look(0.5, model)
    torch.nn.init.constant_(model.weight, 8)
    early.look(0.4, model)
    other.load_state_dict(early.state_dict())
    assert other.stopped
    other.restore(model)
    assert model.weight.item() == 7


def test_a_task_ends_when_validation_gains_nothing():
    stream, values = make_stream(), iter([0.1, 0.4, 0.3, 0.2, 0.9, 0.8, 0.7])
    measured = []

    def measure(answers):
        rows = sum(len(batch) for batch, out in answers)
        if rows != len(stream.rows(0, "validation")):
            return 0.0
        measured.append(rows)
        return next(values)

    assert len(stream.rows(0, "validation")) == len(stream.rows(1, "validation")) != len(stream.rows(0, "test"))
    learner = Learner(default_model(stream), "finetune", epochs=9, patience=2, measure=measure, **CPU)
    history = learner.fit(stream)
    assert history.epochs == [4, 3] and len(measured) == 7
    assert [entry["validation"] for entry in history.losses] == [0.1, 0.4, 0.3, 0.2, 0.9, 0.8, 0.7]
    assert learner.step == sum(entry["steps"] for entry in history.losses)


def test_the_weights_of_the_best_epoch_come_back():
    stream = make_stream()

    def last_weights(**settings):
        model = default_model(stream)
        Learner(model, "finetune", lr=0.01, **settings, **CPU).fit(stream)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    # The measure is best after the first epoch of each task, so two epochs leave what one leaves.
    assert torch.equal(last_weights(epochs=2, patience=1, measure=lambda answers: 0.5), last_weights(epochs=1))


def test_epochs_may_differ_by_task():
    stream = make_stream()
    learner = Learner(default_model(stream), "finetune", epochs=[3, 1], **CPU)
    history = learner.fit(stream)
    assert [(entry["task"], entry["epoch"]) for entry in history.losses] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert history.epochs == [3, 1] and history.hyper["epochs"] == [3, 1] and learner.epochs == 1
    with raises_sentence(InputError, "epochs: expected one number, or 2 for as many tasks, got [3, 1, 2]"):
        Learner(default_model(stream), "finetune", epochs=[3, 1, 2], **CPU).fit(stream)


def test_it_needs_validation_rows():
    with raises_sentence(InputError, "patience", "validation="):
        Learner(default_model(make_stream()), "finetune", patience=1, **CPU).fit(make_stream(0.0))


def test_every_modality_alone_is_measured_where_asked():
    g = torch.Generator().manual_seed(1)
    target = torch.arange(160) % 4
    tells = torch.nn.functional.one_hot(target, 4) * 3.0
    records = Records(
        {"told": tells, "noise": torch.randn(160, 4, generator=g)},
        target,
        present={"noise": (target < 2) & (torch.arange(160) % 3 > 0)},
    )
    stream = Stream.from_dataset(records, n_tasks=2)
    history = Learner(default_model(stream), "joint", epochs=15, by_modality=True, **CPU).fit(stream)
    assert min(history.by_modality["told"][-1]) > 0.9 > history.by_modality["noise"][-1][0]
    # No row of the second task has the other modality.
    assert math.isnan(history.by_modality["noise"][-1][1]) and len(history.by_modality["told"]) == 2
    again = type(history).from_dict(history.to_dict())
    assert again.by_modality["told"] == history.by_modality["told"] and math.isnan(again.by_modality["noise"][1][1])


def test_the_cost_card():
    stream = make_stream()
    model = default_model(stream)
    learner = Learner(model, "er", epochs=1, hyper={"capacity": 10}, **CPU)
    history = learner.fit(stream)
    cost, count = history.cost(), sum(p.numel() for p in model.parameters())
    assert history.trainable_parameters == history.parameters == [count, count]
    assert cost["seconds_per_task"] == pytest.approx(sum(history.seconds) / 2) and cost["peak_memory"] > 0
    assert cost["kept_bytes"] == history.kept_bytes[-1] > 0 and cost["trainable_parameters"] == count
    history.accuracy = []
    assert history.cost() == {}
