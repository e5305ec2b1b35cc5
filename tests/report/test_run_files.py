"""What a training run leaves beside its record."""

import csv
import json
import math
import xml.etree.ElementTree as tree

import pytest

from pyfast_mmcl.report import pages, run_files, runs
from pyfast_mmcl.report.collect import collect
from pyfast_mmcl.train import History
from tests.report.made import history, run

ALONE = {"image": [[0.5, 0.5], [0.4, 0.6]], "text": [[math.nan, 0.2], [math.nan, 0.3]]}


def written(folder, **fields) -> History:
    run(folder, T=2, **fields)
    made = History.from_dict(runs.read_json(folder / "history.json"))
    run_files.write(folder, made)
    return made


def rows(path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_metrics(tmp_path):
    made = written(tmp_path / "run", by_modality=ALONE, trainable_parameters=[10, 20])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["measures"] == made.summary() and metrics["method"] == "er" and metrics["seed"] == 0
    assert (
        set(metrics["measures"]) == set(metrics["definitions"]) and "Chaudhry" in metrics["definitions"]["forgetting"]
    )
    assert metrics["costs"]["seconds"] == 1 and metrics["costs"]["trainable_thousands"] == 0.02
    folder = tmp_path / "run" / "metrics"
    measures = dict(rows(folder / "measures.csv")[1:])
    assert {name: float(measures[name]) for name in made.summary()} == made.summary()
    assert rows(folder / "accuracy.csv")[2][1:] == [repr(v) for v in made.accuracy[0]]
    assert rows(folder / "losses.csv")[:2] == [["task", "epoch", "term", "mean"], ["0", "0", "objective", "1.0"]]
    assert rows(folder / "tasks.csv")[0] == [
        "task",
        "seconds",
        "peak_memory_bytes",
        "kept_bytes",
        "trainable_parameters",
    ]
    assert rows(folder / "modalities.csv")[-1] == ["text", "task 1", "", "0.3"]


def test_plots_are_drawings_and_a_second_writing_changes_no_byte(tmp_path):
    made = written(tmp_path / "one")
    before = {path: path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file()}
    (tmp_path / "one" / "plots" / "losses.png").unlink()
    run_files.write(tmp_path / "one", made)
    assert {path: path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file()} == before
    first = sorted((tmp_path / "one" / "plots").iterdir())
    assert [p.name for p in first] == [
        f"{name}.{kind}" for name in ("accuracy", "accuracy_matrix", "forgetting", "losses") for kind in ("png", "svg")
    ]
    for path in first:
        data = path.read_bytes()
        if path.suffix == ".svg":
            assert tree.fromstring(data).tag.endswith("svg")
        else:
            assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "one" / "report.html").exists()


@pytest.mark.parametrize(("values", "bottom"), [([2.0, 0.5], 0.0), ([0.5, -1.0], -1.0)])
def test_losses_are_drawn_whole_over_whole_epochs(values, bottom):
    losses = [{"task": 0, "epoch": e, "steps": 1, "terms": {"objective": v}} for e, v in enumerate(values)]
    (axes,) = run_files.drawings(history(T=1, losses=losses))["losses"].axes
    low, high = axes.get_ylim()
    assert low <= bottom and high >= max(values) and (bottom < 0 or low == 0)
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_one_task_without_steps(tmp_path):
    run(tmp_path / "run", T=1, losses=[], initial=[])
    made = history(T=1, losses=[], initial=[0.1])
    runs.write_json(tmp_path / "run" / "history.json", made.to_dict())
    run_files.write(tmp_path / "run", made)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["measures"]["forgetting"] is None
    assert not (tmp_path / "run" / "plots" / "losses.svg").exists()
    assert not (tmp_path / "run" / "plots" / "forgetting.svg").exists()


def test_a_page_in_the_folder_does_not_make_it_another_run(tmp_path):
    run(tmp_path / "run")
    pages.build(tmp_path / "run")
    assert len(collect([tmp_path, tmp_path / "run" / "report.html"]).runs) == 1
