"""`pyfast-mmcl train` leaves a whole run folder, and `pyfast-mmcl report` draws one run or compares many."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pyfast_mmcl.cli import app
from tests.report.made import grid, run
from tests.report.markup import Page, barriers, loads


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def refused(*arguments: object) -> str:
    code, text = call(*arguments)
    assert code == 2 and "Traceback" not in text, text
    return text.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Two seeds of two methods, trained for real."""
    root = tmp_path_factory.mktemp("trained")
    for method in ("finetune", "er"):
        for seed in (0, 1):
            out = root / f"{method}-{seed}"
            options = ("--method", method, "--seed", seed, "--epochs", 1, "--tasks", 2)
            assert call("train", "--out", out, *options)[0] == 0
    return root


def test_a_run_folder_is_whole(trained):
    files = {str(path.relative_to(trained / "er-1")) for path in (trained / "er-1").rglob("*") if path.is_file()}
    tables = {f"metrics/{name}.csv" for name in ("accuracy", "losses", "measures", "tasks")}
    plots = {f"plots/{n}.{k}" for n in ("accuracy", "accuracy_matrix", "forgetting", "losses") for k in ("svg", "png")}
    assert files >= {"run.json", "history.json", "metrics.json", "report.html", "checkpoints/checkpoint.json"}
    assert files >= tables | plots and not any(name.endswith(".tmp") for name in files)
    assert json.loads((trained / "er-1" / "run.json").read_text())["options"]["seed"] == 1


def test_trained_runs_are_compared(trained):
    code, text = call("report", *sorted(trained.iterdir()))
    assert code == 0 and "4 runs compared" in text
    page = Page((trained / "report.html").read_text(encoding="utf-8"))
    assert page.broken == [] and loads(page) == [] and barriers(page) == []
    last = [json.loads((trained / f"er-{s}" / "metrics.json").read_text())["measures"]["last_accuracy"] for s in (0, 1)]
    assert f"{100 * sum(last) / 2:.1f} ± " in "".join(page.words)
    # The glob now also names the page and its tables.
    before = (trained / "report.html").read_bytes()
    assert call("report", *sorted(trained.iterdir()))[0] == 0 and (trained / "report.html").read_bytes() == before


def test_where_the_page_goes(tmp_path, monkeypatch):
    grid(tmp_path / "runs", methods=("er",), seeds=2, streams=("digits",))
    run(tmp_path / "elsewhere" / "si", "si")
    assert call("report", tmp_path / "runs")[0] == 0 and (tmp_path / "runs" / "report.html").exists()
    assert call("report", tmp_path / "runs", tmp_path / "elsewhere")[0] == 0 and (tmp_path / "report.html").exists()
    assert call("report", tmp_path / "runs", "--out", tmp_path / "new" / "page.html")[0] == 0
    assert (tmp_path / "new" / "page-means.csv").exists()
    monkeypatch.chdir(tmp_path / "runs")
    os.remove("report.html")
    assert call("report", *sorted(os.listdir()))[0] == 0 and os.path.exists("report.html")


def test_one_run_is_drawn_in_its_folder_or_where_asked(tmp_path):
    folder = run(tmp_path / "run")
    assert call("report", folder)[0] == 0
    assert "Training run: er" in (folder / "report.html").read_text(encoding="utf-8")
    assert call("report", folder, "--out", tmp_path / "other.html")[0] == 0
    assert "Comparison of runs" in (tmp_path / "other.html").read_text(encoding="utf-8")


def test_what_is_left_out_is_said(tmp_path):
    run(tmp_path / "a")
    (run(tmp_path / "b") / "history.json").unlink()
    code, text = call("report", tmp_path / "a", tmp_path / "b")
    assert code == 0 and "left out" in text and "not finished" in text


def test_refusals(tmp_path):
    run(tmp_path / "a"), run(tmp_path / "b", "si")
    assert "no such folder" in refused("report", tmp_path / "a", tmp_path / "nowhere")
    assert ".html" in refused("report", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "page.pdf")
    (tmp_path / "empty").mkdir()
    assert "run.json" in refused("report", tmp_path / "empty", tmp_path / "empty")
    (tmp_path / "file").write_text("")
    assert "at least one finished" in refused("report", tmp_path / "file", tmp_path / "file")
