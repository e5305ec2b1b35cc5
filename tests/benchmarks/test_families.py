"""Every family keeps the contract by which run, report and compare work."""

import dataclasses
import importlib

import pytest

from benchmarks import families, run

FAMILIES = [families.load(name) for name in families.NAMES]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request):
    return request.param


def test_operations_belong_to_one_family():
    ops = families.every_op()
    assert len(set(ops)) == len(ops)
    assert all(families.of(op).name in families.NAMES for op in ops)
    with pytest.raises(ValueError, match="no family has an operation 'nothing'"):
        families.of("nothing")
    with pytest.raises(ValueError, match="unknown family 'nothing'"):
        families.load("nothing")


def test_cases_say_what_a_result_file_needs(family):
    assert set(family.cases.PRESETS) == {"quick", "goals", "full", "gpu"}
    for preset in (*family.cases.PRESETS.values(), family.cases.TINY):
        for case in preset:
            fields = case.to_dict()
            assert case.op in family.cases.OPS and case.flops > 0
            assert set(fields) == set(family.cases.COLUMNS)
            assert type(case)(**fields) == case and family.cases.order(fields)
    assert set(family.cases.SIZES) <= {field.name for field in dataclasses.fields(family.cases.Case)}


def test_contestants_are_modules_with_the_peer_functions(family):
    names = [entry.name for entry in family.contestants.CPU]
    assert len(set(names)) == len(names)
    for entry in (*family.contestants.CPU, *family.contestants.GPU):
        peer = importlib.import_module(entry.peer)
        assert callable(peer.prepare) and callable(peer.unavailable) and callable(peer.versions)
        assert peer.TOLERANCE > 0
        assert set(entry.ops) <= set(family.cases.OPS)
    for name in family.contestants.PLAIN:
        importlib.import_module(f"benchmarks.families.{family.name}.peers.{name}")


def test_a_family_can_be_chosen(capsys, family):
    assert run.main(["--family", family.name, "--preset", "quick", "--list"]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == [case.id for case in family.cases.PRESETS["quick"]]
    other = next(op for op in families.every_op() if op not in family.cases.OPS)
    assert run.main(["--family", family.name, "--op", other, "--list"]) == 2
