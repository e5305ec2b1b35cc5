"""The penalties in unusual circumstances: strengths of 0, all kinds of numbers, odd models and tasks, wrong states."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.continual.regularization.ewc import ElasticWeights
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner
from pyfast_mmcl.train.importance import fisher, output_sensitivity
from pyfast_mmcl.train.parts import CrossEntropy
from pyfast_mmcl.train.registry import get_recipe
from tests.check import assert_same_bits, raises_sentence
from tests.continual.regularization.truth import (
    METHODS,
    OWN_MODALITIES,
    every_label,
    fitted,
    make,
    one_by_one,
    small_stream,
    squared_norm,
)

STRENGTH = {"ewc": 100.0, "ewc_huszar": 100.0, "online_ewc": 100.0, "mas": 0.5, "si": 2.0, "tir": 300.0}
MODALITIES = [["a", "b"], ["a"], ["b"]]


def named(method, strength):
    return {"c" if method == "si" else "lam": strength}


def own_modalities():
    return small_stream(OWN_MODALITIES, missing={}, task_modalities=MODALITIES)


@pytest.fixture(scope="module")
def finetuned():
    return {
        name: fitted(stream, "finetune") for name, stream in {"cil": small_stream(), "own": own_modalities()}.items()
    }


@pytest.mark.parametrize("scenario", ["cil", "own"])
@pytest.mark.parametrize("method", METHODS)
def test_no_strength_is_fine_tuning_to_the_bit(finetuned, method, scenario):
    """Also where a task does not use an encoder, whose weights AdamW would shrink if they had a gradient of zeros."""
    stream = own_modalities() if scenario == "own" else small_stream()
    ours = fitted(stream, method, **named(method, 0.0))
    for a, b in zip(ours.model.parameters(), finetuned[scenario].model.parameters(), strict=True):
        assert_same_bits(a, b)
    # The term has another name where a method refuses pairs.
    for mine, theirs in zip(ours.history.losses, finetuned[scenario].history.losses, strict=True):
        assert list(mine["terms"].values()) == list(theirs["terms"].values())


@pytest.mark.parametrize("method", METHODS)
def test_strengths_of_any_kind_are_one_number_in_a_checkpoint_too(tmp_path, method):
    number = STRENGTH[method]
    for i, value in enumerate((number, np.float64(number), np.float32(number), torch.tensor(number), np.array(number))):
        learner = make(small_stream(), method, checkpoint_dir=tmp_path, **named(method, value))
        learner.fit(small_stream(), resume=i > 0)
        assert learner.history.hyper["c" if method == "si" else "lam"] == number


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), None, "100", True, torch.ones(2)])
@pytest.mark.parametrize("method", METHODS)
def test_a_strength_that_is_none_is_refused(method, wrong):
    name = next(iter(named(method, 0)))
    with raises_sentence(InputError, f"{name}: expected a finite number of at least 0"):
        get_recipe(method).build(**{name: wrong})


@pytest.mark.parametrize(
    ("wrong", "word"),
    [({"samples": 0}, "samples"), ({"samples": 2.5}, "samples")]
    + [({"clamp": value}, "clamp") for value in (-1.0, 0.0, float("nan"), "x")],
)
@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_the_importance_are_checked_before_training(method, wrong, word):
    entry = get_recipe(method)
    if word in entry.defaults:
        with raises_sentence(InputError, f"{word}: expected"):
            entry.build(**wrong)


class Net(nn.Module):
    """A small classifier of modality a with one odd layer."""

    def __init__(self, kind, classes=6):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, classes)
        self.middle = {"bn": lambda: nn.BatchNorm1d(8), "tied": self._tied, "conv": self._conv}.get(kind, nn.Identity)()
        self.register_buffer("shift", torch.full((8,), 0.3))
        self.scale = nn.Parameter(torch.ones(()))
        self.unused = nn.Parameter(torch.ones(3))
        self.table = nn.Parameter(torch.arange(3), requires_grad=False)
        if kind == "strided":
            self.first.weight = nn.Parameter(torch.randn(6, 8).t())
        if kind == "frozen":
            self.first.requires_grad_(False)

    def _tied(self):
        layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        layers[2].weight = layers[0].weight
        return layers

    def _conv(self):
        return nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 2, 3, padding=1, groups=2), nn.Flatten(1))

    def forward(self, batch):
        x = self.middle(self.first(batch.inputs["a"].to(self.first.weight.dtype)))
        return self.head(torch.relu(x * self.scale + self.shift))


def trained(model, method, stream=None, **settings):
    hyper = named(method, STRENGTH[method]) if method in STRENGTH else {}
    chosen = {"epochs": 1, "batch_size": 16, "lr": 0.01, **settings}
    learner = Learner(model, method, device="cpu", progress=False, hyper=hyper, **chosen)
    learner.fit(stream or small_stream())
    return learner


def penalties(learner):
    part = learner.parts[1]
    return part.quadratics_ if hasattr(part, "quadratics_") else [part.quadratic_]


class Scores(nn.Module):
    """What the plain definitions want to call: an Output."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return Output(self.model(batch))


@pytest.mark.parametrize("kind", ["bn", "tied", "conv", "strided", "frozen"])
def test_importance_is_its_definition_for_odd_models(kind):
    torch.set_num_threads(1)
    run = trained(Net(kind), "finetune")
    loader = run.task_loader()
    for ours, weighted, power in (
        (fisher(run, loader, labels="exact"), every_label, 2),
        (output_sensitivity(run, loader), squared_norm, 1),
    ):
        model = copy.deepcopy(run.model)
        model.table = None
        theirs = one_by_one(Scores(model), loader, weighted, power=power)
        assert set(ours) == {name for name, p in run.model.named_parameters() if p.requires_grad}
        scale = max(float(x.max()) for x in theirs.values())
        for name, value in ours.items():
            torch.testing.assert_close(value.double(), theirs[f"model.{name}"], rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_anchored_in_float32(method):
    run = trained(Net("plain").bfloat16(), method)
    for kept in penalties(run):
        assert {w.dtype for w in (*kept.weight.values(), *kept.anchor.values())} == {torch.float32}
        assert all(bool((w.isfinite() & (w >= 0)).all()) for w in kept.weight.values())
        assert any(bool(w.any()) for w in kept.weight.values())


def rows_per_task(*counts):
    """Domains of so many training rows, with a test row each."""
    domain = torch.tensor([t for t, n in enumerate(counts) for _ in range(n + 1)])
    test = torch.cat([domain[1:] != domain[:-1], torch.tensor([True])])
    g = torch.Generator().manual_seed(0)
    records = Records({"a": torch.randn(len(domain), 6, generator=g)}, torch.arange(len(domain)) % 2)
    return Stream.from_dataset(records, scenario="dil", domains=domain, test=test)


@pytest.mark.parametrize("counts", [(40,), (1, 20, 1), (20, 1, 20)])
@pytest.mark.parametrize("method", METHODS)
def test_tasks_of_one_row_and_batches_larger_than_a_task(method, counts):
    stream = rows_per_task(*counts)
    run = trained(Net("plain", classes=2), method, stream, batch_size=500)
    assert len(run.history.accuracy) == len(counts) == len(run.history.losses)
    assert all(w.isfinite().all() for kept in penalties(run) for w in kept.weight.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_cannot_learn_is_not_anchored(method):
    model = Net("plain").requires_grad_(False)
    before = copy.deepcopy(model)
    run = trained(model, method)
    for a, b in zip(model.parameters(), before.parameters(), strict=True):
        assert_same_bits(a, b)
    assert not any(kept.weight for kept in penalties(run))


@pytest.mark.parametrize("method", ["ewc", "mas", "tir"])
def test_statistics_of_the_batch_are_refused_by_name(method):
    model = Net("plain")
    model.middle = nn.BatchNorm1d(8, track_running_stats=False)
    with raises_sentence(InputError, "middle", "batch normalisation"):
        trained(model, method)


def test_a_checkpoint_of_the_other_mode_is_refused(tmp_path):
    stream = small_stream()
    for mode, resume in (("separate", False), ("folded", True)):
        learner = make(stream, [CrossEntropy(), ElasticWeights(1.0, mode=mode)], checkpoint_dir=tmp_path)
        if not resume:
            learner.fit(stream)
            continue
        with raises_sentence(CheckpointError, "ElasticWeights.mode is 'separate', here it is 'folded'"):
            learner.fit(stream, resume=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_state_of_another_part_is_refused(method):
    part = make(small_stream(), method).parts[1]
    for state in ({}, {"capacity": 200, "seed": 0}, {"mode": "folded", "quadratics": [{}]}):
        with raises_sentence(CheckpointError, "checkpoint"):
            part.load_state_dict(state)
