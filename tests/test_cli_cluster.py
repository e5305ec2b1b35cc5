"""`pyfast-mmcl cluster` on real files: every kind of input, deep methods that are killed and resumed, saved models."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pyfast_mmcl.clustering import KMeans
from pyfast_mmcl.clustering.saving import load_estimator
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import CONFIG, WEIGHTS, load_clip
from pyfast_mmcl.models.tiny_clip import tiny_clip, tiny_clip_config
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


COLOURS = {"red <b>": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Eight noisy pictures of each colour, in a folder of their own; one is grey and larger, one hidden."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(np.array(colour) + rng.normal(scale=20, size=(20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / ".thumbs").mkdir()
    (root / ".thumbs" / "x.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def encoder(tmp_path) -> Path:
    """A small CLIP of random weights as open_clip publishes its models."""
    small = {"width": 32, "layers": 1, "text_width": 32, "text_layers": 1}
    sizes = {"image_size": 16, "patch_size": 8, "embed_dim": 16, "context_length": 16, **small}
    folder = tmp_path / "clip"
    folder.mkdir()
    save_file({name: x.contiguous() for name, x in tiny_clip(**sizes).state_dict().items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": tiny_clip_config(**sizes)}))
    return folder


def test_a_folder_of_pictures_is_clustered_through_an_encoder(tmp_path, pictures, encoder):
    run = tmp_path / "run"
    code, text = call("cluster", pictures, "--weights", encoder, "--k", 3, "--truth", "folders", "--out", run)
    assert code == 0 and "24 rows × 16" in text and "encoded" in text, text
    assert summary(run)["scores"]["ACC"] == 1
    lines = (run / "assignments.csv").read_text().splitlines()
    assert lines[0] == "file,cluster" and lines[1].startswith("blue/0.png,") and len(lines) == 25
    # Embeddings are those of the model, row by row.
    first = torch.from_numpy(np.asarray(Image.open(pictures / "blue" / "0.png").resize((16, 16)))).permute(2, 0, 1)
    ours = np.load(run / "embeddings.npy")
    plain = ClipModel(load_clip(None, encoder)).image_features(first[None]).detach().numpy()[0]
    assert ours.shape == (24, 16) and np.abs(ours[0] - plain).max() < 0.05
    page = self_contained(run / "report.html")
    assert page.count('<img class="tiles" src="data:image/png;base64,') == 3
    assert "red &lt;b&gt;" in page and "red <b>" not in page
    images, near = np.load(run / "montage.npy"), np.load(run / "montage_rows.npy")
    assert images.shape == (3, 10, 3, 64, 64) and (near[:, :8] >= 0).all() and (near[:, 8:] == -1).all()
    # New pictures go through the same encoder.
    (tmp_path / "new").mkdir()
    shutil.copy(pictures / "green" / "3.png", tmp_path / "new" / "some.png")
    shutil.copy(pictures / "red <b>" / "5.png", tmp_path / "new" / "other.png")
    assert call("cluster", tmp_path / "new", "--predict", run, "--out", tmp_path / "labels")[0] == 0
    found = dict(line.split(",") for line in (tmp_path / "labels" / "assignments.csv").read_text().splitlines()[1:])
    known = dict(line.rsplit(",", 1) for line in lines[1:])
    assert found == {"some.png": known["green/3.png"], "other.png": known["red <b>/5.png"]}


def test_embeddings_of_a_killed_training_are_not_computed_again(tmp_path, pictures, encoder, monkeypatch):
    out = tmp_path / "run"

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "save_checkpoint", stop)
    assert call("cluster", pictures, *DEC, "--weights", encoder, "--out", out)[0] == 130
    monkeypatch.setattr(engine, "save_checkpoint", save_checkpoint)
    kept = (out / "embeddings.npy").stat()
    more = shutil.copy(pictures / "green" / "3.png", pictures / "green" / "more.png")
    assert "choose another --out" in refused("cluster", pictures, "--resume", "--out", out)
    os.unlink(more)
    code, text = call("cluster", pictures, "--resume", "--out", out)
    assert code == 0 and "from embeddings.npy" in text and (out / "embeddings.npy").stat() == kept


def test_pictures_without_an_encoder_are_their_pixels(tmp_path, pictures):
    run = tmp_path / "run"
    code, text = call("cluster", pictures, "--image-size", 4, "--k", 3, "--truth", "folders", "--out", run)
    assert code == 0 and "24 rows × 48" in text and "--encoder" in text
    assert summary(run)["scores"]["ACC"] == 1 and not (run / "embeddings.npy").exists()


def test_images_in_arrays_are_shown_and_encoded(tmp_path, encoder):
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    images = np.clip(
        np.array(list(COLOURS.values()))[y][:, None, None] + rng.normal(scale=9, size=(30, 12, 12, 3)), 0, 255
    )
    np.save(tmp_path / "images.npy", images.astype(np.uint8))
    np.save(tmp_path / "flat.npy", (images / 255).astype(np.float32).transpose(0, 3, 1, 2).reshape(30, -1))
    runs = []
    for name, more in (("images", ()), ("flat", ("--image-shape", "3x12x12"))):
        for kind in ((), ("--weights", encoder)):
            runs.append(tmp_path / f"{name}{len(kind)}")
            code, text = call("cluster", tmp_path / f"{name}.npy", *more, *kind, "--k", 3, "--out", runs[-1])
            assert code == 0, text
            assert_same_partition(np.load(runs[-1] / "labels.npy"), y)
            assert "Typical images" in self_contained(runs[-1] / "report.html")
    np.testing.assert_allclose(np.load(runs[1] / "embeddings.npy"), np.load(runs[3] / "embeddings.npy"), atol=0.02)
    assert np.load(runs[0] / "montage.npy").shape == (3, 10, 3, 12, 12)


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


def test_mistakes_with_pictures(tmp_path, pictures, encoder, rows):
    out = ("--k", 2, "--out", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    assert "no pictures" in refused("cluster", tmp_path / "empty", *out)
    assert "--key" in refused("cluster", pictures, *out, "--key", "x")
    assert "without weights" in refused("cluster", pictures, *out, "--encoder", "ViT-B-32")
    (pictures / "green" / "3.png").write_bytes(b"no picture")
    assert "3.png" in refused("cluster", pictures, *out, "--weights", encoder)
    np.save(tmp_path / "bright.npy", np.full((4, 3, 8, 8), 7.5, dtype=np.float32))
    assert "[0, 1]" in refused("cluster", tmp_path / "bright.npy", *out, "--weights", encoder)
    assert not (tmp_path / "run").exists()


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


def test_folders_whose_names_are_no_text_have_a_page(tmp_path, pictures):
    try:
        shutil.copytree(pictures / "green", pictures / os.fsdecode(b"bl\xffe"))
    except OSError:
        pytest.skip("this file system takes names of text alone")
    assert call("cluster", pictures, "--k", 2, "--truth", "folders", "--out", tmp_path / "run")[0] == 0
    assert "bl\\udcffe" in self_contained(tmp_path / "run" / "report.html")


def test_a_model_of_embeddings_takes_those_of_its_own_encoder_alone(tmp_path, pictures, encoder):
    run, other = tmp_path / "run", tmp_path / "other"
    assert call("cluster", pictures, "--k", 2, "--weights", encoder, "--out", run)[0] == 0
    shutil.copytree(encoder, other) if encoder.is_dir() else shutil.copy(encoder, other)
    for option in (("--weights", other), ("--encoder", "ViT-B-32"), ("--pretrained", "openai")):
        text = refused("cluster", pictures, "--predict", run, *option, "--out", tmp_path / "new")
        assert "was clustered with" in text and option[0] in text


def test_soft_assignments_too_large_for_a_file_are_missed_aloud(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(cluster_run, "_MOST_BYTES", 100)
    assert call("cluster", rows, *DEC, "--key", "x", "--out", tmp_path / "run")[0] == 0
    assert not (tmp_path / "run" / "probabilities.npy").exists()
    (note,) = summary(tmp_path / "run")["notes"]
    assert note.startswith("probabilities.npy was not written")
    assert "probabilities.npy was not written" in self_contained(tmp_path / "run" / "report.html")
