"""The quadratic family: everyone's value and gradient pass the gate, folded or task by task; wrong ones do not."""

import numpy as np
import pytest
import torch

from benchmarks import families
from benchmarks.families.quadratic import call, goals, truth
from benchmarks.families.quadratic.contestants import AVALANCHE, OURS
from benchmarks.families.quadratic.peers import avalanche_separate, ours, torch_forms

FAMILY = families.load("quadratic")
(CASE,) = FAMILY.cases.TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("quadratic")
    FAMILY.data.make(CASE, path)
    return path


@pytest.fixture
def right(folder):
    with np.load(folder / FAMILY.data.file_names(CASE)["truth"]) as saved:
        return dict(saved)


def answer(peer, folder, **options):
    prepared = peer.prepare(CASE, FAMILY.data.inputs(CASE, FAMILY.data.load(CASE, folder)), options)
    first = prepared.arrays(prepared.run())
    again = prepared.arrays(prepared.run())
    assert all(np.array_equal(first[name], again[name]) for name in first), "a second call must not add to the first"
    return first


@pytest.mark.parametrize(
    ("peer", "options"),
    [
        (ours, {}),
        (ours, {"folded": True}),
        (ours, {"folded": True, "backend": "torch"}),
        (avalanche_separate, {}),
        (torch_forms, {"form": "foreach"}),
        (torch_forms, {"form": "flat"}),
        (torch_forms, {"form": "foreach", "folded": True}),
        (torch_forms, {"form": "flat", "folded": True}),
    ],
)
def test_a_right_answer_passes(peer, options, folder, right):
    assert FAMILY.gate.check(CASE, answer(peer, folder, **options), right, {}, peer.TOLERANCE) is None


def test_a_forgotten_task_a_missing_half_and_a_wrong_element_fail(folder, right):
    inputs = FAMILY.data.inputs(CASE, FAMILY.data.load(CASE, folder))
    fewer = call.prepared(CASE, inputs, {}, lambda params, tasks: avalanche_separate.separate(params, tasks[:-1]))

    def verdict(found):
        return FAMILY.gate.check(CASE, found, right, {}, FAMILY.gate.FLOAT32_TOLERANCE)

    assert "times its tolerance" in verdict(fewer.arrays(fewer.run()))
    assert "value" in verdict(right | {"value": 2 * right["value"]})
    gradient = right["gradient"].copy()
    gradient[1, 3] = np.nan
    assert "gradient" in verdict(right | {"gradient": gradient})
    assert verdict({"value": right["value"]}) == "gradient is missing"
    assert "expected shape" in verdict(right | {"norm": right["norm"][:2]})


@pytest.mark.parametrize("model", FAMILY.cases.PARAMETERS)
def test_the_number_of_parameters_is_that_of_the_model(model):
    shapes = truth.shapes(model)
    assert sum(shape.numel() for shape in shapes) == FAMILY.cases.PARAMETERS[model]
    views = truth.cut(model, torch.empty(FAMILY.cases.PARAMETERS[model], device="meta"))
    assert [view.shape for view in views] == shapes


def test_later_tasks_share_the_arrays_of_earlier_ones(folder, monkeypatch):
    monkeypatch.setitem(FAMILY.cases.DISTINCT, "mlp", 2)
    inputs = FAMILY.data.inputs(CASE, FAMILY.data.load(CASE, folder))
    first, second, third = call.tasks_of(CASE, inputs, "cpu")
    assert third is first and second is not first
    shared = truth.truth_of(CASE, inputs.arrays)
    found = avalanche_separate.prepare(CASE, inputs, {})
    assert FAMILY.gate.check(CASE, found.arrays(found.run()), shared, {}, FAMILY.gate.FLOAT32_TOLERANCE) is None


def test_a_part_of_a_case_is_a_case(folder):
    case, arrays = FAMILY.data.part(CASE, FAMILY.data.load(CASE, folder))
    assert case.T == 1 and set(arrays) == {"current", "anchor0", "weight0"}


def row(T, contestant, role, mode, seconds, extra=1.0):
    return CASE.to_dict() | {
        "T": T,
        "contestant": contestant,
        "role": role,
        "mode": mode,
        "median_s": seconds,
        "repeats": 7,
        "extra_mib": extra,
        "held_mib": 3.0,
    }


def test_goals_and_table():
    rows = [row(10, "pyfast folded", OURS, "amortised", 0.5), row(10, "Avalanche", AVALANCHE, "one-shot", 10.0)]
    rows += [row(20, "pyfast folded", OURS, "amortised", 1.0), row(20, "Avalanche", AVALANCHE, "one-shot", 40.0)]
    verdicts = {one.text: one for one in goals.evaluate(rows)}
    ten, per_task, memory = verdicts.values()
    assert (ten.hits, ten.values) == (1, (20.0,)) and "T = 10" in ten.text
    assert per_task.values == (2.0, 2.0) and per_task.hits == 0
    assert memory.hits == 2
    table = FAMILY.tables.op_table(rows)
    assert "| 10 | 500 | – | 1e+04 | 20.00 |" in table and "| 20 | 1000 |" in table
