"""The learner's settings on the command line: they reach the run, are kept for its resume, refused in a sentence."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.cli_learner import build_model, launched, parse_epochs, parse_warmup
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.tiny_clip import tiny_clip, tiny_clip_config
from tests.check import raises_sentence
from tests.test_cli import call, refused

SETTINGS = (
    *("--epochs", "1,2", "--tasks", "2", "--batch-size", "64", "--optimizer", "sgd", "--lr", "0.1"),
    *("--schedule", "cosine", "--warmup", "2", "--patience", "1", "--precision", "bf16", "--accumulate", "2"),
    *("--clip-norm", "5", "--measure", "accuracy", "--by-modality", "--tracker", "csv", "--device", "cpu"),
    *("--stream-set", "validation=0.2"),
)


def test_settings_reach_the_run_and_its_resume(tmp_path):
    code, text = call("train", "--out", tmp_path / "run", *SETTINGS)
    assert code == 0 and "trainable parameters" in text, text
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    expected = {"epochs": [1, 2], "schedule": "cosine", "warmup": 2, "patience": 1, "precision": "bf16"}
    expected |= {"accumulate": 2, "clip_norm": 5.0, "batch_size": 64, "measure": "accuracy"}
    assert {name: history["hyper"][name] for name in expected} == expected
    assert set(history["by_modality"]) == {"image", "text"} and "validation" in history["losses"][0]
    assert (tmp_path / "run" / "logs" / "log.csv").is_file()
    code, text = call("train", "--resume", "--out", tmp_path / "run", "--schedule", "cosine")
    assert code == 0, text
    assert "schedule=cosine" in refused("train", "--resume", "--out", tmp_path / "run", "--schedule", "constant")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--epochs", "many"), "--epochs expects a whole number"),
        (("--epochs", "1,2,3"), "5 for as many tasks"),
        (("--precision", "fp8"), "precision"),
        (("--schedule", "linear"), "schedule"),
        (("--accumulate", "0"), "accumulate"),
        (("--patience", "2"), "validation"),
        (("--tracker", "tensorbord"), "tensorboard"),
        (("--measure", "precision"), "measure"),
        (("--optimizer", "lion"), "optimizer"),
        (("--clip", "ViT-B-17"), "ViT-B-16"),
        (("--weights", "/no/such/file"), "does not exist"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, arguments, words):
    assert words in refused("train", "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_numbers_as_the_command_line_writes_them():
    assert [parse_epochs(text) for text in (None, "7", "5,3")] == [None, 7, [5, 3]]
    assert [parse_warmup(number) for number in (None, 5.0, 0.25)] == [None, 5, 0.25]
    assert isinstance(parse_warmup(5.0), int)


def test_clip_starts_from_local_weights(tmp_path):
    stream, small = digits_stream(n_tasks=2), {"width": 32, "layers": 1, "text_width": 32, "text_layers": 1}
    sizes = {"image_size": 16, "patch_size": 8, "embed_dim": 16, "context_length": 16, **small}
    clip = tiny_clip(**sizes)
    save_file({name: x.contiguous() for name, x in clip.state_dict().items()}, tmp_path / "open_clip_model.safetensors")
    options = {"clip": None, "weights": str(tmp_path), "seed": 0}
    with raises_sentence(InputError, "expected a name"):
        build_model(options, stream)
    config = json.dumps({"model_cfg": tiny_clip_config(**sizes)})
    (tmp_path / "open_clip_config.json").write_text(config)
    model = build_model(options, stream)
    assert isinstance(model, ClipModel) and len(model.class_tokens) == 10
    assert torch.equal(model.clip.visual.proj, clip.visual.proj)
    assert build_model({"clip": None, "weights": None, "seed": 0}, stream) is None


def test_one_process_is_no_launch(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched(None) is None
