"""What a checkpoint says about settings, and how an error names those that differ."""

from functools import partial

import pytest

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train import Learner, default_model
from pyfast_mmcl.train.identity import differences, told
from tests.check import raises_sentence
from tests.train.process_jobs import make_stream

THERE = {"estimator": "DEC", "seed": 0, "parameters": {"lr": 0.1, "widths": (5, 5), "augment": {"Policy": {"flip": 1}}}}


def test_equal_settings_do_not_differ():
    assert differences(THERE, {**THERE, "parameters": dict(THERE["parameters"])}) == ""


def test_settings_within_settings_are_named_by_the_way_to_them():
    mine = {**THERE, "parameters": {**THERE["parameters"], "augment": {"Policy": {"flip": 0}}}}
    assert differences(THERE, mine) == "its parameters.augment.Policy.flip is 1, here it is 0"


def test_a_setting_that_one_lacks():
    assert differences({"a": None}, {}) == "its a is None, here it is not set"
    assert differences({}, {"a": {}}) == "its a is not set, here it is {}"


def test_only_a_few_are_named():
    text = differences({"x": {str(i): "long " * 100 for i in range(9)}}, {"x": {str(i): i for i in range(9)}})
    assert text.count("here it is") == 3 and text.endswith(", and 6 more") and len(text) < 400


def test_a_call_in_waiting_is_told_by_its_arguments():
    assert told(partial(max, 3, key=len)) == {"function": "builtins.max", "arguments": (3,), "key": "builtins.len"}


@pytest.mark.parametrize("name", ["log_dir", "checkpoint_dir"])
def test_a_folder_that_is_none(name):
    with raises_sentence(InputError, name, "got 3"):
        Learner(default_model(make_stream()), "er", **{name: 3})
