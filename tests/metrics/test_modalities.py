"""Accuracy by modality, counted by hand."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics.modalities import accuracy_by_modality, accuracy_by_presence, modality_gap
from tests.check import raises_sentence

TARGET = torch.tensor([0, 1, 1, 0, 1])
SCORES = torch.nn.functional.one_hot(torch.tensor([0, 1, 0, 0, 0]), 2).float()  # right, right, wrong, right, wrong
IMAGE = torch.tensor([True, True, True, False, False])
TEXT = torch.tensor([True, False, True, True, False])


def batches(step: int):
    """The five rows in batches of ``step``."""
    for i in range(0, 5, step):
        at = slice(i, i + step)
        yield SCORES[at], TARGET[at], {"image": IMAGE[at], "text": TEXT[at]}


@pytest.mark.parametrize("step", [1, 2, 5])
def test_rows_count_for_each_modality_they_have(step):
    found = accuracy_by_modality(batches(step))
    assert found == {"image": pytest.approx(2 / 3), "text": pytest.approx(2 / 3)}


@pytest.mark.parametrize("step", [1, 2, 5])
def test_rows_count_once_for_their_set(step):
    found = accuracy_by_presence(batches(step))
    assert found == {"image+text": 0.5, "image": 1.0, "text": 1.0, "none": 0.0}


def test_answers_of_several_positions_are_right_as_a_whole():
    scores, target = torch.stack([SCORES, SCORES], 1), torch.stack([TARGET, TARGET], 1)
    target[0, 1] = 1
    assert accuracy_by_modality([(scores, target, {"image": IMAGE})]) == {"image": pytest.approx(1 / 3)}


def test_a_modality_that_no_row_has_is_left_out():
    nobody = torch.zeros(5, dtype=torch.bool)
    assert list(accuracy_by_modality([(SCORES, TARGET, {"image": IMAGE, "audio": nobody})])) == ["image"]
    with raises_sentence(InputError, "at least one row"):
        accuracy_by_modality([(SCORES, TARGET, {"audio": nobody})])
    with raises_sentence(InputError, "at least one row"):
        accuracy_by_presence([])


def test_shapes_that_do_not_fit():
    with raises_sentence(InputError, "[5, 2]", "[4]"):
        accuracy_by_modality([(SCORES, TARGET[:4], {"image": IMAGE})])
    with raises_sentence(InputError, "'image': [4]"):
        accuracy_by_modality([(SCORES, TARGET, {"image": IMAGE[:4]})])


def test_gap():
    assert modality_gap({"image": 0.75, "text": 0.5, "audio": 0.625}) == 0.25 and modality_gap({"image": 0.3}) == 0
    with raises_sentence(InputError, "at least one modality"):
        modality_gap({})
