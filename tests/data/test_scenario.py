"""The scenario table, and that the survey's other two scenarios are further rows of it."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import SCENARIOS, Records, Scenario, Stream, get_scenario


def test_names_and_titles_lead_to_the_same_row():
    for name, row in SCENARIOS.items():
        assert get_scenario(name) is row and get_scenario(row.title) is row and get_scenario(row) is row
    assert get_scenario("CIL") is SCENARIOS["cil"]


def test_rules_of_the_three_rows():
    rules = {name: (row.labels, row.task_id_at_test) for name, row in SCENARIOS.items()}
    assert rules == {"cil": ("disjoint", False), "dil": ("shared", False), "til": ("disjoint", True)}


def test_unknown_scenarios_and_rules_are_refused():
    with pytest.raises(UnknownNameError, match="cil"):
        get_scenario("cill")
    with pytest.raises(InputError, match="int"):
        get_scenario(3)
    with pytest.raises(UnknownNameError, match="disjoint"):
        Scenario("x", "x", labels="disjunct", task_id_at_test=False, modalities="all")
    with pytest.raises(UnknownNameError, match="per task"):
        Scenario("x", "x", labels="shared", task_id_at_test=False, modalities="per-task")


def test_modality_dynamic_scenario_is_one_more_row():
    row = Scenario("mdtil", "modality-dynamic", labels="disjoint", task_id_at_test=True, modalities="per task")
    records = Records({"a": torch.rand(40, 2), "b": torch.rand(40, 3)}, torch.arange(40) % 4)
    stream = Stream.from_dataset(
        records, scenario=row, n_tasks=2, task_modalities=[["a"], ["a", "b"]], task_order=[1, 0]
    )
    assert [task.modalities for task in stream.tasks] == [("a", "b"), ("a",)]
    batch = stream.loader(1, "test")[0]
    assert not batch.present["b"].any() and batch.inputs["b"].eq(0).all() and batch.task.eq(1).all()
    with pytest.raises(InputError, match="one set per task"):
        Stream.from_dataset(records, scenario=row, n_tasks=2)
    with pytest.raises(InputError, match="leave it out"):
        Stream.from_dataset(records, scenario="cil", n_tasks=2, task_modalities=[["a"], ["b"]])


def test_generated_answers_are_one_more_row():
    row = Scenario("gdil", "generated", labels="generated", task_id_at_test=False, modalities="all")
    records = Records({"question": torch.arange(60).reshape(20, 3)}, torch.arange(40).reshape(20, 2))
    stream = Stream.from_dataset(records, scenario=row, domains=torch.arange(20) // 10)
    batch = stream.loader(0, "train", batch_size=4)[0]
    assert batch.target.shape == (4, 2) and stream.n_classes == 40 and len(stream.tasks) == 2
