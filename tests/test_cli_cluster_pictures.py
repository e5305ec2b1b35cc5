"""`pyfast-mmcl cluster` on pictures: folders of them, embeddings of a CLIP, images in arrays, broken files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import CONFIG, WEIGHTS, load_clip
from pyfast_mmcl.models.tiny_clip import tiny_clip, tiny_clip_config
from pyfast_mmcl.train import engine
from pyfast_mmcl.train.checkpoint import save_checkpoint
from tests.check import assert_same_partition
from tests.test_cli import call, refused, self_contained
from tests.test_cli_cluster import DEC, summary

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


def test_mistakes_with_pictures(tmp_path, pictures, encoder):
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


@pytest.fixture
def damaged(pictures) -> tuple[str, ...]:
    """Names of the pictures that were broken: one is no picture, one breaks off in the middle, one is empty."""
    (pictures / "green" / "3.png").write_bytes(b"no picture")
    whole = (pictures / "red <b>" / "0.png").read_bytes()
    (pictures / "red <b>" / "0.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "blue" / "7.png").write_bytes(b"")
    return "blue/7.png", "green/3.png", "red <b>/0.png"


@pytest.mark.parametrize("how", [("--k", 3), DEC, ("--k", 3, "--encoder")], ids=["pixels", "deep", "encoder"])
def test_broken_pictures_stop_a_run_before_it_begins(tmp_path, pictures, damaged, encoder, how):
    how = (*how[:-1], "--weights", encoder) if how[-1] == "--encoder" else how
    text = refused("cluster", pictures, *how, "--out", tmp_path / "run")
    assert "3 of 24 pictures" in text and all(name in text for name in damaged) and "--skip-broken" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "encoder"])
def test_broken_pictures_are_left_out_and_listed(tmp_path, pictures, damaged, encoder, encoded):
    run, more = tmp_path / "run", ("--weights", encoder) if encoded else ("--image-size", 4)
    code, text = call("cluster", pictures, *more, "--k", 3, "--truth", "folders", "--skip-broken", "--out", run)
    assert code == 0 and "21 rows" in text and "3 broken pictures are left out: blue/7.png, green/3.png" in text, text
    assert len(np.load(run / "labels.npy")) == 21 and summary(run)["scores"]["ACC"] == 1
    lines = (run / "assignments.csv").read_text().splitlines()
    assert len(lines) == 25 and lines[22:] == [f"{name}," for name in damaged]
    assert not any(line.startswith(damaged) for line in lines[:22])
    assert "3 broken pictures were left out" in self_contained(run / "report.html")


def test_one_broken_picture_is_said_to_be_one(tmp_path, pictures):
    next(pictures.rglob("*.png")).write_bytes(b"no picture")
    run = tmp_path / "run"
    code, text = call("cluster", pictures, "--image-size", 4, "--k", 3, "--skip-broken", "--out", run)
    assert code == 0 and "1 broken picture is left out" in text and "1 broken picture was left out" in text, text
    assert "the last line of assignments.csv names it" in self_contained(run / "report.html")


def test_skipping_has_its_limits(tmp_path, pictures):
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"no picture")
    assert "24 of 24" in refused("cluster", pictures, "--k", 3, "--skip-broken", "--out", tmp_path / "run")
    np.save(tmp_path / "rows.npy", np.eye(4))
    assert "folder" in refused("cluster", tmp_path / "rows.npy", "--k", 3, "--skip-broken", "--out", tmp_path / "run")
