"""Result folders come back as they were recorded, and their tables say what the rows say."""

import dataclasses
import json
import math

import pytest

from benchmarks.methods import report, results, spread
from benchmarks.methods.results import Column, Experiment, Row, Table
from pyfast_mmcl._errors import InputError
from tests.check import raises_sentence

EXPERIMENT = Experiment(
    name="toy",
    title="A toy",
    text="Two methods on two streams.",
    config={"epochs": 3, "sizes": (1, 2)},
    streams=("first", "second"),
    methods=("finetune", "joint"),
    tables=(Table("Accuracy", (Column("accuracy", "accuracy", "%"), Column("seconds", "time", "s", None))),),
    notes=("Joint is ahead.",),
)


def run(method: str, seed: int, accuracy: float, stream: str = "first") -> list[Row]:
    return [Row(stream, method, seed, "accuracy", accuracy), Row(stream, method, seed, "seconds", 12.3456)]


def test_rows_come_back_exactly(tmp_path):
    third = 1 / 3
    folder = results.record(EXPERIMENT, run("joint", 0, third), threads=1, root=tmp_path)
    found = results.read(folder)
    assert [row.value for row in found.rows] == [third, 12.3456]
    assert found.experiment.tables == EXPERIMENT.tables and found.experiment.methods == EXPERIMENT.methods
    assert found.where["threads"] == 1 and "torch" in found.where["versions"]
    assert all(row.date and row.commit == results.commit() for row in found.rows)
    assert not list(folder.glob(".*")), "a partial file was left behind"


def test_a_run_measured_again_replaces_its_own_rows_only(tmp_path):
    results.record(EXPERIMENT, run("joint", 0, 0.5) + run("joint", 1, 0.6), threads=1, root=tmp_path)
    folder = results.record(EXPERIMENT, run("joint", 0, 0.7) + run("finetune", 0, 0.1), threads=1, root=tmp_path)
    kept = [(row.method, row.seed, row.value) for row in results.read(folder).rows if row.measure == "accuracy"]
    assert kept == [("finetune", 0, 0.1), ("joint", 0, 0.7), ("joint", 1, 0.6)]


def test_two_set_ups_are_never_mixed(tmp_path):
    results.record(EXPERIMENT, run("joint", 0, 0.5), threads=1, root=tmp_path)
    other = dataclasses.replace(EXPERIMENT, config={"epochs": 4})
    for experiment, threads in ((other, 1), (EXPERIMENT, 2)):
        with raises_sentence(InputError, "toy", "remove the folder"):
            results.record(experiment, run("joint", 1, 0.5), threads=threads, root=tmp_path)
    assert len(results.read(tmp_path / "toy").rows) == 2


def test_a_name_that_is_not_listed_is_refused(tmp_path):
    with raises_sentence(InputError, "'jiont'"):
        results.record(EXPERIMENT, run("jiont", 0, 0.5), threads=1, root=tmp_path)
    assert not (tmp_path / "toy").exists()


@pytest.mark.parametrize("damage", ["{", '{"name": "toy"}', "[]"])
def test_a_damaged_folder_is_one_sentence(tmp_path, damage):
    folder = results.record(EXPERIMENT, run("joint", 0, 0.5), threads=1, root=tmp_path)
    (folder / results.ABOUT).write_text(damage)
    with raises_sentence(InputError, "toy", "measure it anew"):
        results.read(folder)


def test_spread_is_the_sample_standard_deviation():
    one = spread.spread([1.0, 2.0, 4.0])
    assert one.mean == pytest.approx(7 / 3) and one.count == 3
    assert one.sd == pytest.approx(math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2))
    assert math.isnan(spread.spread([3.0]).sd)


def test_table_shows_spread_units_gaps_and_seeds():
    rows = run("finetune", 0, 0.5) + [Row("first", "joint", s, "accuracy", v) for s, v in enumerate((0.7, 0.8, 0.9))]
    table = spread.seed_table(EXPERIMENT, rows, "first", EXPERIMENT.tables[0])
    assert table.splitlines() == [
        "| method | accuracy (%) | time (s) | seeds |",
        "| --- | --- | --- | --- |",
        "| finetune | 50.0 | 12.3 | 1 |",
        "| joint | 80.0 ± 10.0 | – | 3 |",
    ]
    assert spread.seed_table(EXPERIMENT, rows, "second", EXPERIMENT.tables[0]) == ""


def test_a_new_result_folder_is_all_a_new_experiment_needs(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"Before.\n{report.BEGIN}\nold\n{report.END}\nAfter.\n")
    arguments = ["--page", str(page), "--results", str(tmp_path / "results")]
    for name in ("toy", "another"):
        experiment = dataclasses.replace(EXPERIMENT, name=name, title=f"The {name} experiment")
        results.record(experiment, run("joint", 0, 0.5), threads=1, root=tmp_path / "results")
        assert report.main([*arguments, "--check"]) == 1
        assert report.main(arguments) == 0
        assert report.main([*arguments, "--check"]) == 0
    text = page.read_text()
    assert text.startswith("Before.") and text.endswith("After.\n") and "old" not in text
    assert text.index("### The another experiment") < text.index("### The toy experiment")
    assert "| joint | 50.0 | 12.3 | 1 |" in text and "Joint is ahead." in text and "epochs 3" in text
    assert "Accuracy, first" in text and "Accuracy, second" not in text


def test_a_page_without_its_marks_is_left_alone(tmp_path, capsys):
    page = tmp_path / "benchmarks.md"
    page.write_text("no marks here\n")
    assert report.main(["--page", str(page), "--results", str(tmp_path)]) == 2
    assert page.read_text() == "no marks here\n" and "must hold" in capsys.readouterr().err


def test_the_committed_page_shows_the_committed_results():
    assert report.main(["--check"]) == 0


def test_about_is_readable_json(tmp_path):
    folder = results.record(EXPERIMENT, [], threads=1, root=tmp_path)
    assert json.loads((folder / results.ABOUT).read_text())["title"] == "A toy"
