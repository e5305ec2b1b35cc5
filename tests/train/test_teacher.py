"""A teacher answers as the model did when it was taken, also after a checkpoint and a head that has grown."""

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import default_model
from pyfast_mmcl.train.teacher import Teacher
from tests.check import assert_same_bits, raises_sentence


@pytest.fixture
def rows():
    return digits_stream(n_tasks=2).loader(0)[0]


def test_a_teacher_does_not_learn(rows):
    model, teacher = default_model(digits_stream(n_tasks=2)), Teacher()
    assert not teacher
    with raises_sentence(InputError, "teacher"):
        teacher(rows, model)
    model.train()
    teacher.take(model)
    before = model(rows).scores
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    out = teacher(rows, model)
    assert teacher and model.training and not teacher.model(model).training and not out.scores.requires_grad
    assert_same_bits(out.scores, before)


def test_a_checkpoint_brings_it_back_beside_a_model_that_has_grown(rows):
    model, teacher = default_model(digits_stream(n_tasks=2)), Teacher()
    teacher.take(model)
    before = teacher(rows, model).scores
    state = teacher.state_dict()
    again = Teacher()
    again.load_state_dict(state)
    assert again and again.state_dict() is not None
    model.head.linear = nn.Linear(64, 12)
    found = again(rows, model).scores
    assert_same_bits(found, before)
    assert model.head.linear.out_features == 12 and model(rows).scores.shape[1] == 12
    assert Teacher().state_dict() == {}


def test_half_precision_answers_in_float32(rows):
    model, teacher = default_model(digits_stream(n_tasks=2)).to(torch.bfloat16), Teacher()
    teacher.take(model)
    assert teacher(rows, model).scores.dtype == torch.float32


def test_the_copy_of_an_accelerated_model_is_a_copy(rows, accelerator):
    """Mixed precision puts a forward of its own on the model; that of the copy must read the copy's weights."""
    model, teacher = default_model(digits_stream(n_tasks=2)), Teacher()
    accelerator(mixed_precision="bf16").prepare_model(model)
    teacher.take(model)
    before = teacher(rows, model).scores
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert_same_bits(teacher(rows, model).scores, before)
    assert not torch.equal(model(rows).scores, before)
