"""Arguments of kinds that nobody expects: one sentence each, from the learner and from streams."""

import inspect

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train import Learner, default_model
from tests.train.process_jobs import make_stream

WRONG = [3, 2.5, "x", b"x", object(), [1], ["a"], {"a": 1}, {"a": "b"}, True, float("nan")]
STREAM = make_stream()
MODEL = default_model(STREAM)
TARGET = torch.arange(60) % 6


def make_learner(**change):
    Learner(**{"model": MODEL, "method": "er", **change})


def deal(**change):
    Stream.from_dataset(Records({"a": torch.randn(60, 4), "b": torch.randn(60, 3)}, TARGET), **{"n_tasks": 3, **change})


def arguments_of(function, *without):
    return [name for name in inspect.signature(function).parameters if name not in ("self", *without)]


CASES = [(make_learner, name) for name in arguments_of(Learner.__init__, "accelerator")]
CASES += [(deal, name) for name in arguments_of(Stream.from_dataset, "dataset")]


@pytest.mark.parametrize(("make", "name"), CASES, ids=[f"{make.__name__} {name}" for make, name in CASES])
def test_every_argument_takes_what_it_knows_or_says_so(make, name):
    refused = 0
    for value in WRONG:
        try:
            make(**{name: value})
        except InputError as error:
            refused += 1
            assert "\n" not in str(error), str(error)
    # Flags take anything as true or false; the others are about streams of another kind.
    assert refused or name in ("progress", "by_modality", "domains", "vocabulary")


def test_columns_are_no_rows():
    with pytest.raises(InputError, match=r"Records\(columns"):
        Stream.from_dataset({"a": torch.randn(60, 4)}, n_tasks=2)
