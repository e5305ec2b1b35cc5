"""The frozen model: nothing moves, and a linear probe that is ridge regression on all rows so far."""

import gc

import pytest
import torch
from torch.nn.functional import normalize, one_hot

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.baselines import frozen as frozen_module
from pyfast_mmcl.continual.baselines.frozen import frozen
from pyfast_mmcl.train import Learner, default_model
from tests.check import assert_same_bits, raises_sentence
from tests.continual.battery import make_stream


def run(stream, **hyper):
    learner = Learner(
        default_model(stream, "frozen"), "frozen", epochs=1, batch_size=16, device="cpu", progress=False, hyper=hyper
    )
    before = {name: x.clone() for name, x in learner.model.state_dict().items()}
    learner.fit(stream)
    for name, x in learner.model.state_dict().items():
        assert_same_bits(x, before[name])
    return learner


@pytest.mark.parametrize("scenario", ["til", "pairs"])
def test_zero_shot_answers_are_those_before_the_first_task(scenario):
    learner = run(make_stream(scenario, clip=True))
    assert all(row == learner.history.initial for row in learner.history.accuracy)
    assert not any(p.requires_grad for p in learner.model.parameters())


@pytest.mark.parametrize("scenario", ["cil", "dil"])
def test_the_linear_probe_is_ridge_regression_on_all_rows_in_any_order_of_tasks(scenario):
    stream = make_stream(scenario, clip=True)
    learner = run(stream, probe="linear", ridge=0.01)
    features, target = [], []
    for task in range(stream.n_tasks):
        for batch in stream.loader(task, batch_size=7):
            with torch.no_grad():
                features.append(normalize(learner.model.eval()(batch).features, dim=1).double())
            target.append(batch.target)
    f = torch.cat([torch.cat(features), torch.ones(len(torch.cat(target)), 1).double()], 1)
    y, n = one_hot(torch.cat(target), stream.n_classes).double(), len(f)
    w = torch.linalg.solve(f.T @ f + 0.01 * n * torch.eye(f.shape[1]).double(), f.T @ y)
    rows = stream.loader(0, "test", batch_size=12)[0]
    with torch.no_grad():
        asked = normalize(learner.model(rows).features, dim=1).double()
    truth = torch.cat([asked, torch.ones(len(asked), 1).double()], 1) @ w
    torch.testing.assert_close(learner.predict(rows).double(), truth, rtol=1e-4, atol=1e-5)
    state = learner.parts[1].state_dict()
    assert state["gram"].shape == (f.shape[1],) * 2 and int(state["gram"][-1, -1]) == n


def test_classes_to_come_and_those_of_other_tasks_are_never_answered():
    stream = make_stream("til", clip=True)
    learner = run(stream, probe="linear")
    rows = stream.loader(0, "test", batch_size=12)[0]
    scores = learner.predict(rows)
    other = [c for c in range(stream.n_classes) if c not in stream.tasks[0].classes]
    assert (scores[:, other] == torch.finfo(scores.dtype).min).all()
    cil = make_stream("cil", clip=True)
    history = run(cil, probe="linear").history
    assert history.accuracy[0][1] == 0 < history.accuracy[1][1]


def test_what_it_cannot_do_is_said():
    with pytest.raises(UnknownNameError, match="linear"):
        frozen(probe="liner")
    for ridge in (0, -1, "x"):
        with raises_sentence(InputError, "ridge", repr(ridge)):
            frozen(probe="linear", ridge=ridge)
    with raises_sentence(InputError, "probe", "pairs", "zero_shot"):
        run(make_stream("pairs", clip=True), probe="linear")


def test_the_linear_probe_holds_one_sum_and_not_one_per_batch(monkeypatch):
    alive, read = [], frozen_module.features_of

    def count(method, out):
        size = out.features.shape[1] + 1
        alive.append(sum(issubclass(type(x), torch.Tensor) and x.shape == (size, size) for x in gc.get_objects()))
        return read(method, out)

    monkeypatch.setattr(frozen_module, "features_of", count)
    learner = Learner(
        default_model(make_stream("dil", clip=True), "frozen"),
        "frozen",
        epochs=1,
        batch_size=4,
        device="cpu",
        progress=False,
        hyper={"probe": "linear"},
    )
    learner.fit(make_stream("dil", clip=True))
    assert len(alive) > 10 and max(alive) - alive[0] <= 3
