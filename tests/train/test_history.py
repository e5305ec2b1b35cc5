"""The record of a run goes through strict JSON without loss."""

import json
import math

import numpy as np
import pytest

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train import History
from tests.check import raises_sentence


@pytest.fixture
def history():
    made = History("er", "class-incremental", ["a", "b"], 3, {"capacity": 5}, initial=[0.5, 0.25])
    made.accuracy, made.measure = [[1.0, 0.0]], "recall_at_1"
    made.losses = [{"task": 0, "epoch": 0, "steps": 4, "terms": {"cross_entropy": 0.125}}]
    return made


def test_rows_not_reached_are_nan(history):
    assert np.array_equal(history.accuracy_matrix, [[1.0, 0.0], [math.nan, math.nan]], equal_nan=True)
    assert history.initial_accuracy.tolist() == [0.5, 0.25] and not history.finished
    with raises_sentence(InputError, "1 of 2 tasks", "finish"):
        history.summary()


def test_summary_of_a_finished_run(history):
    history.accuracy.append([0.5, 0.75])
    summary = history.summary()
    assert summary["last_accuracy"] == 0.625 and summary["forgetting"] == 0.5
    assert summary["forward_transfer"] == pytest.approx(-0.25)


def test_file_round_trip_is_strict_json(history, tmp_path):
    history.initial[1] = math.nan
    history.save(tmp_path / "history.json")
    text = (tmp_path / "history.json").read_text()
    assert "NaN" not in text and json.loads(text)["initial"] == [0.5, None]
    back = History.load(tmp_path / "history.json")
    assert back.to_dict() == history.to_dict() and math.isnan(back.initial[1])


OTHER_FIELDS = '{"kind": "pyfast_mmcl history", "method": "er", "scenario": "cil", "tasks": [], "seed": 0, "new": 1}'
CONTENTS = [None, "", "[1]", "{}", '{"kind": "pyfast_mmcl history"', '{"kind": "x"}']


@pytest.mark.parametrize("content", [*CONTENTS, '{"kind": "pyfast_mmcl history"}', OTHER_FIELDS])
def test_files_that_are_no_history(tmp_path, content):
    if content is not None:
        (tmp_path / "h.json").write_text(content)
    with raises_sentence(InputError, "h.json"):
        History.load(tmp_path / "h.json")
