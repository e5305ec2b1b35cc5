"""`pyfast-mmcl cluster` on real files: every kind of input, deep methods that are killed and resumed, saved models."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyfast_mmcl.clustering import KMeans
from pyfast_mmcl.clustering.saving import load_estimator
from pyfast_mmcl.report import cluster_run
from pyfast_mmcl.train import engine
from pyfast_mmcl.train.checkpoint import save_checkpoint
from tests.check import assert_same_bits, assert_same_partition
from tests.layers import ROOT
from tests.test_cli import call, refused, self_contained

DEC = ("--method", "dec", "--set", "widths=[16]", "--set", "code=4", "--set", "pretrain_epochs=6", "--set", "epochs=3")
DEC = (*DEC, "--set", "batch_size=16", "--set", "n_init=2", "--k", 3)


@pytest.fixture
def rows(tmp_path) -> Path:
    """Three well separated groups of rows [60, 4] and their classes, in one archive."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 20)
    np.savez(tmp_path / "rows.npz", x=(20 * np.eye(3, 4)[y] + rng.normal(size=(60, 4))).astype(np.float32), y=y)
    return tmp_path / "rows.npz"


def classes(rows: Path) -> np.ndarray:
    with np.load(rows) as archive:
        return archive["y"]


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def test_a_deep_method_leaves_labels_soft_assignments_its_model_and_a_page(tmp_path, rows):
    out = tmp_path / "run"
    code, text = call("cluster", rows, *DEC, "--out", out, "--truth", f"{rows}:y", "--device", "cpu")
    assert code == 0 and "silhouette" in text and "ACC" in text, text
    labels, soft = np.load(out / "labels.npy"), np.load(out / "probabilities.npy")
    assert_same_partition(labels, classes(rows))
    np.testing.assert_array_equal(soft.argmax(1), labels)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
    with np.load(rows) as archive:
        assert_same_bits(load_estimator(out / "model").predict_proba(archive["x"]), soft)
    said = summary(out)
    assert said["scores"] == {"ACC": 1, "NMI": 1, "ARI": 1, "purity": 1} and said["balance"] == pytest.approx(1)
    assert {epoch["phase"] for epoch in said["history"]} == {"pretraining", "clustering"}
    assert not (out / "checkpoints").exists()
    page = self_contained(out / "report.html")
    assert all(word in page for word in ("Clustering: dec, K = 3", "Classes and clusters", "In the plane", "Losses"))
    assert call("report", out)[0] == 0 and self_contained(out / "report.html") == page


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, rows, monkeypatch):
    assert call("cluster", rows, *DEC, "--out", tmp_path / "whole")[0] == 0
    saves = []

    def save(folder, state):
        saves.append(1)
        save_checkpoint(folder, state)
        if len(saves) == 11:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "save_checkpoint", save)
    out = tmp_path / "run"
    code, text = call("cluster", rows, *DEC, "--out", out, "--checkpoint-every", 2)
    assert code == 130 and f"cluster {rows} --resume --out {out}" in text
    assert (out / "checkpoints" / "checkpoint.json").exists() and not (out / "labels.npy").exists()
    assert "not finished" in refused("report", out)
    assert "k=3" in refused("cluster", rows, "--resume", "--out", out, "--k", 4)
    assert call("cluster", rows, "--resume", "--out", out)[0] == 0
    for name in ("labels.npy", "probabilities.npy", "centers.npy", "projection.npy"):
        assert_same_bits(np.load(out / name), np.load(tmp_path / "whole" / name))
    assert not (out / "checkpoints").exists()
    labels = (out / "labels.npy").stat()
    code, text = call("cluster", rows, "--resume", "--out", out)
    assert code == 0 and "finished" in text and (out / "labels.npy").stat() == labels


@pytest.mark.parametrize("how", [("--auto-k",), ("--k", "auto"), ("--k", "x-means")])
def test_the_number_of_clusters_is_found(tmp_path, rows, how):
    assert call("cluster", rows, *how, "--out", tmp_path / "run")[0] == 0
    assert_same_partition(np.load(tmp_path / "run" / "labels.npy"), classes(rows))
    assert len(summary(tmp_path / "run")["sizes"]) == 3
    assert "K = 3" in self_contained(tmp_path / "run" / "report.html")


def test_warnings_of_a_fit_are_said_in_a_line(tmp_path):
    np.save(tmp_path / "equal.npy", np.ones((9, 2)))
    code, text = call("cluster", tmp_path / "equal.npy", "--k", 3, "--out", tmp_path / "run")
    assert code == 0 and "pyfast-mmcl: note: Number of distinct clusters (1)" in text and ".py" not in text
    assert summary(tmp_path / "run")["silhouette"] is None


def test_two_processes_train_one_network(tmp_path, rows):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pyfast_mmcl.cli"]
    job = [*map(str, DEC), "--device", "cpu", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launch, "cluster", str(rows), *job]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Saved in") == 1
    assert_same_partition(np.load(tmp_path / "run" / "labels.npy"), classes(rows))
    assert load_estimator(tmp_path / "run" / "model").training.accelerator is None


def test_views_of_an_archive_are_clustered_together(tmp_path, rows):
    with np.load(rows) as archive:
        x, y = archive["x"], archive["y"]
    # Each view alone tells only two groups apart.
    np.savez(tmp_path / "views.npz", a=x[:, :1], b=x[:, 1:2], y=y)
    code, text = call(
        "cluster", tmp_path / "views.npz", "--key", "a", "--key", "b", "--k", 3, "--out", tmp_path / "run"
    )
    assert code == 0 and "2 views" in text, text
    assert_same_partition(np.load(tmp_path / "run" / "labels.npy"), y)
    out = tmp_path / "again"
    assert call("cluster", tmp_path / "views.npz", "--predict", tmp_path / "run", "--out", out)[0] == 0
    assert_same_bits(np.load(out / "labels.npy"), np.load(tmp_path / "run" / "labels.npy"))


@pytest.mark.parametrize("method", [(), DEC[:-2]])
def test_new_rows_are_labelled_by_a_saved_model(tmp_path, rows, method):
    assert call("cluster", rows, *method, "--k", 3, "--out", tmp_path / "run")[0] == 0
    order = np.random.default_rng(1).permutation(60)[:41]
    with np.load(rows) as archive:
        np.save(tmp_path / "new.npy", archive["x"][order])
        np.save(tmp_path / "truth.npy", archive["y"][order])
    shutil.move(tmp_path / "run", tmp_path / "moved")
    new = (tmp_path / "new.npy", "--predict", tmp_path / "moved", "--out", tmp_path / "new")
    code, text = call("cluster", *new, "--truth", tmp_path / "truth.npy")
    assert code == 0, text
    np.testing.assert_array_equal(
        np.load(tmp_path / "new" / "labels.npy"), np.load(tmp_path / "moved" / "labels.npy")[order]
    )
    assert summary(tmp_path / "new")["scores"]["ACC"] == 1
    assert (tmp_path / "new" / "probabilities.npy").exists() == bool(method)
    assert "Labelled by the model" in self_contained(tmp_path / "new" / "report.html")


def test_t_sne_and_no_projection(tmp_path, rows):
    for kind in ("tsne", "none"):
        assert call("cluster", rows, "--k", 3, "--projection", kind, "--out", tmp_path / kind)[0] == 0
    assert "t-SNE" in self_contained(tmp_path / "tsne" / "report.html")
    assert not (tmp_path / "none" / "projection.npy").exists()
    assert "In the plane" not in self_contained(tmp_path / "none" / "report.html")


MISTAKES = [
    ((), ("--k", "--auto-k")),
    (("--k", "3", "--auto-k"), ("contradict",)),
    (("--k", "many"), ("many", "auto")),
    (("--k", "3", "--resume"), ("kmeans", "checkpoints")),
    (("--k", "3", "--precision", "bf16"), ("kmeans", "--precision")),
    (("--k", "3", "--projection", "umap"), ("umap", "pca")),
    (("--k", "3", "--set", "n_clusters=4"), ("--k",)),
    (("--k", "3", "--set", "training=1"), ("--device",)),
    (("--k", "3", "--method", "dec", "--set", "code=0"), ("code",)),
    (("--k", "3", "--method", "dec", "--precision", "fp8"), ("fp8",)),
    (("--k", "3", "--method", "dec", "--device", "tpu"), ("tpu",)),
    (("--k", "3", "--truth", "folders"), ("folders", "pictures")),
    (("--k", "3", "--truth", "nowhere.npy"), ("nowhere.npy",)),
    (("--k", "3", "--image-shape", "2x3"), ("rows of 4", "1 × 2 × 3, which have 6", "--image-shape")),
    (("--k", "3", "--image-shape", "2"), ("--image-shape", "28x28")),
    (("--k", "3", "--encoder", "tiny"), ("--image-shape",)),
    (("--k", "3", "--pretrained", "openai"), ("--encoder",)),
    (("--k", "3", "--key", "z"), ("'z'", "x")),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(a) or "no number" for a, _ in MISTAKES])
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path, rows, arguments, words):
    text = refused("cluster", rows, *arguments, "--out", tmp_path / "run")
    assert all(word in text for word in words), text
    assert not (tmp_path / "run").exists()


def test_truth_of_an_archive_needs_its_member(tmp_path, rows):
    for truth, word in ((rows, "member"), (f"{rows}:z", "'z'"), (f"{rows}:x", "[60]")):
        assert word in refused("cluster", rows, "--k", 3, "--truth", truth, "--out", tmp_path / "run")


def test_mistakes_with_saved_models(tmp_path, rows):
    run, out = tmp_path / "run", ("--out", tmp_path / "new")
    assert "run" in refused("cluster", rows, "--predict", run, *out)
    assert call("cluster", rows, "--k", 3, "--out", run)[0] == 0
    assert "leave --k out" in refused("cluster", rows, "--predict", run, *out, "--k", 3)
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    assert "5 features" in refused("cluster", tmp_path / "wide.npy", "--predict", run, *out)
    (tensors,) = (run / "model").glob("*.safetensors")
    tensors.write_bytes(b"")
    assert "damaged" in refused("cluster", rows, "--predict", run, *out)
    shutil.rmtree(run / "model")
    assert "no estimator" in refused("cluster", rows, "--predict", run, *out)
    assert not (tmp_path / "new").exists()
    assert call("train", "--epochs", "1", "--tasks", "2", "--out", tmp_path / "trained")[0] == 0
    assert "train run" in refused("cluster", rows, "--predict", tmp_path / "trained", *out)


def test_truth_that_is_no_classes_is_refused_before_the_fit(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(KMeans, "fit", lambda *_: pytest.fail("the fit began"))
    np.save(tmp_path / "y.npy", np.linspace(0, 1, 60))
    assert "discrete" in refused("cluster", rows, "--k", 3, "--truth", tmp_path / "y.npy", "--out", tmp_path / "run")


def test_an_archive_called_npy_is_refused(tmp_path, rows):
    shutil.copy(rows, tmp_path / "rows.npy")
    assert "rename it to .npz" in refused("cluster", tmp_path / "rows.npy", "--k", 3, "--out", tmp_path / "run")


def test_soft_assignments_too_large_for_a_file_are_missed_aloud(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(cluster_run, "_MOST_BYTES", 100)
    assert call("cluster", rows, *DEC, "--key", "x", "--out", tmp_path / "run")[0] == 0
    assert not (tmp_path / "run" / "probabilities.npy").exists()
    (note,) = summary(tmp_path / "run")["notes"]
    assert note.startswith("probabilities.npy was not written")
    assert "probabilities.npy was not written" in self_contained(tmp_path / "run" / "report.html")
