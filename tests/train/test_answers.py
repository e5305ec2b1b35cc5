"""Answers collected over many rows, class means, and values that last as long as the weights."""

from types import SimpleNamespace

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner, default_model
from pyfast_mmcl.train.answers import WhileUnchanged, class_means, collect, features_of, in_slices
from tests.check import raises_sentence


def test_answers_are_those_of_the_model_in_evaluation_mode():
    stream = digits_stream(n_tasks=2)
    model = default_model(stream)
    model.fusion.linear = torch.nn.Sequential(torch.nn.Dropout(0.5), model.fusion.linear)
    learner = Learner(model, "finetune", device="cpu")
    rows = stream.loader(0, batch_size=700)[0]
    model.train()
    found = collect(learner, in_slices(rows), lambda b, out: {"scores": out.scores, "index": b.index})
    assert model.training and torch.equal(found["index"], rows.index) and len(rows) > 512
    with torch.no_grad():
        torch.testing.assert_close(found["scores"], model.eval()(rows).scores)
    assert collect(learner, [], lambda b, out: {}) == {}


@pytest.mark.parametrize("n", [0, 1, 17, 129])
def test_class_means_are_unit_means(n):
    rows, target = torch.randn(n, 5), torch.randint(6, (n,))
    means, known = class_means(rows, target, 7)
    assert means.dtype == torch.float32 and known.tolist() == [c in target for c in range(7)]
    for c in range(7):
        mean = rows[target == c].double().sum(0)
        truth = mean / mean.norm() if c in target else torch.zeros(5).double()
        torch.testing.assert_close(means[c].double(), truth, rtol=1e-6, atol=1e-7)


def test_features_are_unit_rows_and_must_be_there():
    out = Output(torch.zeros(3, 2), torch.randn(3, 4).to(torch.bfloat16))
    torch.testing.assert_close(features_of("x", out).norm(dim=1), torch.ones(3))
    with raises_sentence(InputError, "some method", "features"):
        features_of("some method", Output(torch.zeros(3, 2)))


def test_a_value_is_worked_out_again_when_a_weight_has_changed():
    model = torch.nn.BatchNorm1d(3)
    learner, made, value = SimpleNamespace(model=model, step=0), [], WhileUnchanged()

    def make():
        made.append(len(made))
        return made[-1]

    assert [value.get(learner, make) for _ in range(3)] == [0, 0, 0]
    with torch.no_grad():
        model.weight.mul_(2)
    assert value.get(learner, make) == 1
    model(torch.randn(4, 3))  # moves the running statistics
    assert value.get(learner, make) == 2
    model.load_state_dict(model.state_dict())
    assert value.get(learner, make) == 3
    learner.step = 5
    assert value.get(learner, make) == 4
    value.forget()
    assert value.get(learner, make) == 5 == value.get(learner, make)
