"""WiSE-FT: which weights are mixed, from where training goes on, and its two ends."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.baselines.wise_ft import WeightInterpolation, wise_ft
from pyfast_mmcl.train import Learner, default_model
from tests.check import assert_same_bits, raises_sentence
from tests.continual import clip_case as case
from tests.continual.battery import make_stream


def tuned(part, model, learner, number, to):
    """One task that moves the only weight to ``to``; returns where it started and where the task left it."""
    part.before_task(learner, case.task(number))
    start = float(model.weight.detach())
    with torch.no_grad():
        model.weight.fill_(to)
    part.after_task(learner, case.task(number), None)
    return start, float(model.weight.detach())


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [("initial", [(1.0, 2.5), (7.0, 3.25), (10.0, 1.0)]), ("previous", [(1.0, 2.5), (2.5, 4.375), (4.375, 3.53125)])],
)
def test_weights_are_mixed_with_the_anchor_and_training_goes_on_from_its_place(anchor, expected):
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    part, learner = WeightInterpolation(0.25, anchor), case.learner(model)
    found = []
    for number, to in enumerate((7.0, 10.0, 1.0)):
        found.append(tuned(part, model, learner, number, to))
        state, part = part.state_dict(), WeightInterpolation(0.25, anchor)
        part.load_state_dict(state)
    assert [x for pair in found for x in pair] == pytest.approx([x for pair in expected for x in pair])


def runs(stream, method, **hyper):
    settings = {"epochs": 1, "batch_size": 16, "device": "cpu", "progress": False}
    learner = Learner(default_model(stream, "wise_ft"), method, hyper=hyper, **settings)
    before = {name: x.clone() for name, x in learner.model.state_dict().items()}
    learner.fit(stream)
    return before, learner


def test_alpha_0_is_the_model_that_was_given_and_alpha_1_is_fine_tuning():
    stream = make_stream("cil", clip=True)
    before, untouched = runs(stream, "wise_ft", alpha=0.0)
    for name, x in untouched.model.state_dict().items():
        assert_same_bits(x, before[name])
    assert untouched.history.accuracy[0] == untouched.history.accuracy[1] == untouched.history.initial
    _, whole = runs(stream, "wise_ft", alpha=1.0)
    _, plain = runs(stream, "finetune")
    assert whole.history.accuracy == plain.history.accuracy
    for name, x in whole.model.state_dict().items():
        assert_same_bits(x, plain.model.state_dict()[name])


def test_bad_arguments_are_sentences():
    for alpha in (-0.1, 1.1, "half", True):
        with raises_sentence(InputError, "alpha", repr(alpha)):
            wise_ft(alpha=alpha)
    with pytest.raises(UnknownNameError, match="initial"):
        wise_ft(anchor="initials")
