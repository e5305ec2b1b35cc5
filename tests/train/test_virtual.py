"""Gradients and losses beside the step are those of plain torch, and leave no trace."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train import virtual
from tests.check import assert_same_bits, raises_sentence


def rows(x, y):
    index = torch.arange(len(y))
    return Batch({"x": x}, torch.as_tensor(y), index * 0, {"x": index >= 0}, index)


def learner_of(model):
    return SimpleNamespace(model=model.train(), accelerator=None)


class Normed(nn.Module):
    """BatchNorm and dropout: what a pass beside the step could disturb."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2))

    def forward(self, batch):
        return self.layers(batch.inputs["x"])


def test_passes_beside_the_step_leave_the_model_as_it_is():
    torch.manual_seed(1)
    learner = learner_of(Normed())
    before = copy.deepcopy(learner.model.state_dict())
    batch = rows(torch.randn(8, 2), [0, 1] * 4)
    gradient = virtual.gradients(learner, batch)
    virtual.row_losses(learner, batch, virtual.stepped(learner, gradient, 0.1))
    virtual.row_losses(learner, batch)
    for name, value in learner.model.state_dict().items():
        assert_same_bits(value, before[name])
    assert learner.model.training and all(p.grad is None for p in learner.model.parameters())
    assert not any(g.requires_grad for g in gradient.values())


def test_a_gradient_of_nothing_is_nothing():
    learner = learner_of(Normed())
    batch = rows(torch.randn(8, 2), [0, 1] * 4)
    learner.model.requires_grad_(False)
    assert virtual.gradients(learner, batch) == {}
    learner.model.scale = nn.Parameter(torch.ones(()))  # takes no part in the scores
    assert virtual.gradients(learner, batch) == {}
    before = virtual.row_losses(learner, batch)
    assert torch.equal(virtual.row_losses(learner, batch, virtual.stepped(learner, {}, 0.1)), before)


def test_virtual_passes_are_plain_torch():
    torch.manual_seed(1)
    learner = learner_of(Normed().double())
    learner.model.layers[2].p = 0.0
    batch = rows(torch.randn(8, 2).double(), [0, 1] * 4)
    model = copy.deepcopy(learner.model)
    nn.functional.cross_entropy(model(batch), batch.target).backward()
    gradient = virtual.gradients(learner, batch)
    assert gradient.keys() == dict(model.named_parameters()).keys()
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradient[name], p.grad)
    # The pass in training mode has moved the statistics of this copy.
    model.load_state_dict(learner.model.state_dict())
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    model.eval()
    expected = nn.functional.cross_entropy(model(batch), batch.target, reduction="none")
    torch.testing.assert_close(virtual.row_losses(learner, batch, virtual.stepped(learner, gradient, 0.1)), expected)


def test_frozen_weights_take_no_virtual_step():
    learner = learner_of(Normed())
    learner.model.layers[0].requires_grad_(False)
    gradient = virtual.gradients(learner, rows(torch.randn(8, 2), [0, 1] * 4))
    assert not any(name.startswith("layers.0") for name in gradient) and len(gradient) == 4
    assert virtual.stepped(learner, gradient, 0.1).keys() == gradient.keys()


def test_generated_answers_count_by_the_mean_over_positions():
    class Answers(nn.Module):
        def forward(self, batch):
            return batch.inputs["x"]

    scores = torch.randn(3, 4, 5)
    batch = rows(scores, torch.randint(0, 5, (3, 4)))
    expected = nn.functional.cross_entropy(scores.mT, batch.target, reduction="none").mean(1)
    torch.testing.assert_close(virtual.row_losses(learner_of(Answers()), batch), expected)


def test_labels_beyond_the_head_are_named():
    with raises_sentence(InputError, "2 classes", "class 2"):
        virtual.row_losses(learner_of(Normed()), rows(torch.randn(3, 2), [0, 1, 2]))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_models_have_their_losses_in_float32(half):
    learner, batch = learner_of(Normed().to(half)), rows(torch.randn(8, 2, dtype=half), [0, 1] * 4)
    assert virtual.row_losses(learner, batch).dtype == torch.float32
    gradient = virtual.gradients(learner, batch)
    assert all(g.dtype == half for g in gradient.values())
    assert all(w.dtype == half for w in virtual.stepped(learner, gradient, 0.1).values())
