"""The scenario table: the five rows of the survey, and what each makes of one set of records."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import SCENARIOS, Records, Scenario, Stream, get_scenario


def test_names_and_titles_lead_to_the_same_row():
    for name, row in SCENARIOS.items():
        assert get_scenario(name) is row and get_scenario(row.title) is row and get_scenario(row) is row
    assert get_scenario("CIL") is SCENARIOS["cil"]


def test_rules_of_the_five_rows():
    rules = {name: (row.labels, row.task_id_at_test, row.modalities) for name, row in SCENARIOS.items()}
    assert rules == {
        "cil": ("disjoint", False, "all"),
        "dil": ("shared", False, "all"),
        "til": ("disjoint", True, "all"),
        "gdil": ("generated", False, "all"),
        "mdtil": ("disjoint", True, "per task"),
    }


def test_unknown_scenarios_and_rules_are_refused():
    with pytest.raises(UnknownNameError, match="cil"):
        get_scenario("cill")
    with pytest.raises(InputError, match="int"):
        get_scenario(3)
    with pytest.raises(UnknownNameError, match="disjoint"):
        Scenario("x", "x", labels="disjunct", task_id_at_test=False, modalities="all")
    with pytest.raises(UnknownNameError, match="per task"):
        Scenario("x", "x", labels="shared", task_id_at_test=False, modalities="per-task")


def test_modality_dynamic_tasks_have_sets_of_their_own():
    row = get_scenario("mdtil")
    records = Records({"a": torch.rand(40, 2), "b": torch.rand(40, 3)}, torch.arange(40) % 4)
    stream = Stream.from_dataset(
        records, scenario=row, n_tasks=2, task_modalities=[["a"], ["a", "b"]], task_order=[1, 0]
    )
    assert [task.modalities for task in stream.tasks] == [("a", "b"), ("a",)]
    batch = stream.loader(1, "test")[0]
    assert not batch.present["b"].any() and batch.inputs["b"].eq(0).all() and batch.task.eq(1).all()
    records = Records(records.columns, records.target, present={"b": torch.arange(40) % 4 >= 2})
    with pytest.raises(InputError, match="task 0 has a modality that the task has"):
        Stream.from_dataset(records, scenario=row, n_tasks=2, task_modalities=[["b"], ["a"]])
    with pytest.raises(InputError, match="one set per task"):
        Stream.from_dataset(records, scenario=row, n_tasks=2)
    with pytest.raises(InputError, match="leave it out"):
        Stream.from_dataset(records, scenario="cil", n_tasks=2, task_modalities=[["a"], ["b"]])


def test_generated_answers_are_sequences():
    row = get_scenario("gdil")
    records = Records({"question": torch.arange(60).reshape(20, 3)}, torch.arange(40).reshape(20, 2))
    stream = Stream.from_dataset(records, scenario=row, domains=torch.arange(20) // 10)
    batch = stream.loader(0, "train", batch_size=4)[0]
    assert batch.target.shape == (4, 2) and stream.n_classes == 40 and len(stream.tasks) == 2


def test_domains_are_numbers():
    records = Records({"a": torch.rand(8, 2)}, torch.arange(8) % 2)
    with pytest.raises(InputError, match="domains: expected a number per row"):
        Stream.from_dataset(records, scenario="dil", domains=["a", "b"] * 4)


def test_the_objective_says_what_is_learnt():
    records = Records({"a": torch.rand(8, 2), "b": torch.rand(8, 3)}, torch.arange(8) % 2)
    streams = [Stream.from_dataset(records, n_tasks=1, test=0.5, objective=name) for name in ("classify", "pairs")]
    assert [s.objective for s in streams] == ["classify", "pairs"]
    assert Stream.from_dataset(records, n_tasks=1).objective == "classify"
    assert streams[0].fingerprint() != streams[1].fingerprint()
    with pytest.raises(UnknownNameError, match="pairs"):
        Stream.from_dataset(records, n_tasks=1, objective="pair")
    with pytest.raises(InputError, match="two modalities"):
        Stream.from_dataset(Records({"a": torch.rand(8, 2)}, torch.arange(8) % 2), n_tasks=1, objective="pairs")


def test_a_task_names_the_modalities_that_its_rows_have():
    present = {"a": torch.arange(20) % 2 == 0}
    data = Records({"a": torch.rand(20, 2), "b": torch.rand(20, 3)}, torch.arange(20) % 2, present=present)
    assert [t.modalities for t in Stream.from_dataset(data, n_tasks=2).tasks] == [("a", "b"), ("b",)]
