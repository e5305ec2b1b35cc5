"""The command line as its users meet it: every command works, every mistake is one sentence and exit code 2."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pyfast_mmcl import __version__, cli_report
from pyfast_mmcl.cli import app
from tests.layers import ROOT

TRAIN = ("train", "--epochs", "1", "--tasks", "2")


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and everything printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def refused(*arguments: object) -> str:
    """The one sentence of a command that must refuse."""
    code, text = call(*arguments)
    assert code == 2, text
    last = text.strip().splitlines()[-1]
    assert last.startswith("pyfast-mmcl: ") and "Traceback" not in text
    return last


@pytest.fixture
def rows(tmp_path) -> Path:
    """Three well separated groups of rows, [60, 4]."""
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 4)).astype(np.float32) + 20 * np.repeat(np.eye(3, 4), 20, axis=0)
    np.save(tmp_path / "rows.npy", x.astype(np.float32))
    return tmp_path / "rows.npy"


def self_contained(page: Path) -> str:
    """The page's text; it must load nothing from anywhere."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", text) and "<script" not in text
    return text


def numbers(folder: Path) -> dict:
    """A demo's results without its timings and memory."""
    results = json.loads((folder / "demo.json").read_text())
    results.pop("speed")
    for part in (*results["continual"].values(), results["clustering"], results["classification"]):
        for timing in ("seconds", "peak_memory"):
            part.pop(timing, None)
    return results


def test_demo_writes_its_page_and_the_same_numbers_on_every_run(tmp_path):
    for name in ("one", "two"):
        cli_report.demo(tmp_path / name, 0, epochs=1, rounds=1)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    page = self_contained(tmp_path / "one" / "report.html")
    er = numbers(tmp_path / "one")["continual"]["er"]["summary"]["last_accuracy"]
    assert f"{100 * er:.1f} %" in page and "finetune" in page and "joint" in page
    (tmp_path / "one" / "report.html").unlink()
    assert call("report", tmp_path / "one")[0] == 0 and self_contained(tmp_path / "one" / "report.html") == page


def test_train_saves_a_run_that_report_can_draw_and_resume_leaves_alone(tmp_path):
    code, text = call(*TRAIN, "--out", tmp_path / "run", "--set", "capacity=50")
    assert code == 0 and "last accuracy" in text
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert np.array(history["accuracy"]).shape == (2, 2) and history["hyper"]["capacity"] == 50
    assert call("report", tmp_path / "run")[0] == 0
    assert "Training run: er" in self_contained(tmp_path / "run" / "report.html")
    assert call("train", "--out", tmp_path / "run", "--resume")[0] == 0
    again = json.loads((tmp_path / "run" / "history.json").read_text())
    assert again["accuracy"] == history["accuracy"]


def test_cluster_writes_labels_centres_and_scores(tmp_path, rows):
    np.save(tmp_path / "truth.npy", np.repeat(np.arange(3), 20))
    out = tmp_path / "out"
    assert call("cluster", rows, "--k", 3, "--out", out, "--truth", tmp_path / "truth.npy")[0] == 0
    assert np.load(out / "labels.npy").shape == (60,) and np.load(out / "centers.npy").shape == (3, 4)
    assert set(json.loads((out / "summary.json").read_text())["scores"].values()) == {1.0}
    assert call("report", out)[0] == 0
    assert "K = 3" in self_contained(out / "report.html")


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_cluster_reads_other_files_alike(tmp_path, rows, ending):
    x = np.load(rows)
    if ending == "npz":
        np.savez(tmp_path / "rows.npz", x=x)
    else:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({f"f{j}": x[:, j] for j in range(4)}), tmp_path / "rows.parquet")
    assert call("cluster", rows, "--k", 3, "--out", tmp_path / "a")[0] == 0
    assert call("cluster", tmp_path / f"rows.{ending}", "--k", 3, "--out", tmp_path / "b")[0] == 0
    assert np.array_equal(np.load(tmp_path / "a" / "labels.npy"), np.load(tmp_path / "b" / "labels.npy"))


def test_methods_and_doctor_list_what_is_there():
    code, text = call("methods")
    assert code == 0 and all(name in text for name in ("finetune", "joint", "er", "kmeans"))
    code, text = call("doctor")
    assert code == 0 and all(word in text for word in ("knn", "native", "triton", "torch"))


def test_the_page_of_methods_is_up_to_date():
    code, page = call("methods", "--markdown")
    assert code == 0 and page == (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_version_and_help_answer():
    assert call("--version") == (0, f"pyfast-mmcl {__version__}\n")
    code, text = call()
    assert code == 0 and all(name in text for name in ("demo", "train", "cluster", "methods", "bench", "doctor"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "ert"), ("ert", "er")),
        (("--stream", "digit"), ("digit", "digits")),
        (("--scenario", "cli"), ("cli", "cil")),
        (("--set", "capacty=5"), ("capacty", "capacity")),
        (("--set", "capacity"), ("name=value",)),
        (("--set", "capacity=0"), ("capacity", "at least 1")),
        (("--tasks", "11"), ("n_tasks", "10")),
        (("--epochs", "0"), ("epochs",)),
        (("--lr", "-1"), ("lr",)),
    ],
)
def test_train_refuses_before_it_writes(tmp_path, arguments, words):
    text = refused("train", "--out", tmp_path / "run", *arguments)
    assert all(word in text for word in words), text
    assert not (tmp_path / "run").exists()


def test_train_protects_other_peoples_folders(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "run.json" in refused(*TRAIN, "--out", tmp_path, "--resume")
    assert "exists already" in refused(*TRAIN, "--out", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]


def test_a_checkpoint_cut_in_half_is_refused(tmp_path):
    assert call(*TRAIN, "--out", tmp_path / "run")[0] == 0
    (tensors,) = (tmp_path / "run" / "checkpoints").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[: tensors.stat().st_size // 2])
    assert "checkpoint" in refused("train", "--out", tmp_path / "run", "--resume")


def test_a_resumed_run_keeps_its_options(tmp_path):
    assert call(*TRAIN, "--out", tmp_path / "run")[0] == 0
    assert "started with seed=0" in refused("train", "--out", tmp_path / "run", "--resume", "--seed", "1")


@pytest.mark.parametrize("k", [0, -1, 61])
def test_cluster_refuses_a_wrong_k(tmp_path, rows, k):
    assert str(k) in refused("cluster", rows, "--k", k, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def damaged(rows: Path, kind: str) -> Path:
    """A file that cannot be clustered."""
    path = rows.with_name(f"{kind.replace(' ', '_')}.npy")
    x = np.load(rows)
    if kind == "truncated":
        path.write_bytes(rows.read_bytes()[:-100])
    elif kind == "text":
        path.write_text("1, 2, 3\n")
    elif kind == "objects":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif kind == "empty":
        np.save(path, x[:0])
    elif kind == "one axis":
        np.save(path, x[0])
    elif kind == "not finite":
        np.save(path, np.where(np.arange(60)[:, None] == 7, np.nan, x).astype(np.float32))
    return path


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "objects", "empty", "one axis", "not finite"])
def test_cluster_refuses_a_file_it_cannot_use(tmp_path, rows, kind):
    path = damaged(rows, kind)
    before = sorted(p.name for p in tmp_path.iterdir())
    refused("cluster", path, "--k", 2, "--out", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_cluster_refuses_names_and_places_it_does_not_know(tmp_path, rows):
    assert "kmeans" in refused("cluster", rows, "--k", 2, "--out", tmp_path / "out", "--method", "k-means")
    (tmp_path / "file").write_text("")
    refused("cluster", rows, "--k", 2, "--out", tmp_path / "file" / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    refused("cluster", rows, "--k", 2, "--out", tmp_path / "full")


def test_report_refuses_what_is_no_run(tmp_path):
    assert "run.json" in refused("report", tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1, "ki')
    assert "run.json" in refused("report", tmp_path)
    (tmp_path / "run.json").write_text('{"format": 999, "kind": "train", "options": {}, "versions": {}}')
    assert "version" in refused("report", tmp_path) or "format" in refused("report", tmp_path)
