"""Which runs a comparison takes, which it leaves out, and that it says so."""

import json

import pytest

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.report import runs
from pyfast_mmcl.report.collect import collect
from tests.check import raises_sentence
from tests.report.made import grid, history, run


def test_folders_and_folders_of_folders(tmp_path):
    grid(tmp_path / "many", methods=("er",), seeds=2, streams=("digits",))
    run(tmp_path / "one", "si")
    (tmp_path / "report.html").write_text("an earlier page")
    places = [tmp_path / "many", tmp_path / "one", tmp_path / "report.html"]
    found = collect(places)
    assert [(r.method, r.seed) for r in found.runs] == [("er", 0), ("er", 1), ("si", 0)] and not found.left_out
    assert [r.name for r in collect([tmp_path]).runs] == [r.name for r in found.runs]


def test_what_cannot_be_compared_is_left_out_with_its_reason(tmp_path):
    run(tmp_path / "good")
    (run(tmp_path / "unfinished") / "history.json").unlink()
    path = run(tmp_path / "half") / "history.json"
    half = json.loads(path.read_text())
    half["accuracy"].pop()
    path.write_text(json.dumps(half))
    (run(tmp_path / "cut") / "history.json").write_text('{"method": "er"')
    path = run(tmp_path / "newer") / "history.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unheard_of": 1}))
    (tmp_path / "clusters").mkdir()
    runs.write_record(tmp_path / "clusters", "cluster", {"method": "kmeans"})
    found = collect([tmp_path])
    assert [r.name for r in found.runs] == [str(tmp_path / "good")]
    reasons = {name.rsplit("/", 1)[-1]: why for name, why in found.left_out}
    words = {"clusters": "cluster run", "unfinished": "not finished", "half": "2 of 3 tasks", "cut": "damaged"}
    assert set(reasons) == {*words, "newer"} and "unheard_of" in reasons["newer"]
    assert all(word in reasons[name] for name, word in words.items())


def test_a_run_that_repeats_another_is_no_further_seed(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b")
    run(tmp_path / "c", hyper={"capacity": 5})
    run(tmp_path / "d", stream="har")
    found = collect([tmp_path])
    assert [r.name[-1] for r in found.runs] == ["a", "c", "d"]
    assert found.left_out == [
        (str(tmp_path / "b"), f"it repeats {tmp_path / 'a'}: same method, stream, settings and seed.")
    ]


def test_records_of_older_versions_still_load(tmp_path):
    path = run(tmp_path / "old") / "history.json"
    old = json.loads(path.read_text())
    for name in set(old) - {"method", "scenario", "tasks", "seed", "accuracy", "initial"}:
        del old[name]
    path.write_text(json.dumps(old))
    (read,) = collect([tmp_path]).runs
    assert read.history.by_modality == {} and read.history.trainable_parameters == []
    assert read.history.summary()["last_accuracy"] == pytest.approx(history().summary()["last_accuracy"])


def test_nothing_to_compare(tmp_path):
    with raises_sentence(InputError, "no such folder"):
        collect([tmp_path / "nowhere"])
    with raises_sentence(InputError, "at least one finished", "run.json"):
        collect([tmp_path])
    (run(tmp_path / "unfinished") / "history.json").unlink()
    with raises_sentence(InputError, "at least one finished", "finish it first"):
        collect([tmp_path])


def test_stream_and_settings_are_told_apart(tmp_path):
    (read,) = collect([run(tmp_path / "a", hyper={"capacity": 5})]).runs
    assert read.stream == "digits · class-incremental · 3 tasks"
    assert read.settings == {"epochs": 2, "capacity": 5}


def test_options_that_change_no_number_split_nothing(tmp_path):
    options = {"trackers": ["csv"], "device": "cpu", "by_modality": True, "precision": "bf16", "lr": None}
    options["stream_set"] = {"missing": 0.3, "long_tail": 10}
    (read,) = collect([run(tmp_path / "a", options=options, measure="recall_at_1")]).runs
    assert read.settings == {"epochs": 2, "precision": "bf16"}
    assert read.stream == "digits · class-incremental · 3 tasks · missing 0.3, long_tail 10 · R@1"
