"""The pretrained tiny CLIP: what is left out is never shown, and what is written is read back."""

import json

import pytest
import torch

from benchmarks.methods import pretrain_tiny_clip as pretraining
from benchmarks.methods import tiny_clip_data as data
from benchmarks.methods.clip_training import Recipe
from pyfast_mmcl.models.clip_load import load_clip
from tests.check import assert_same_bits


@pytest.fixture(scope="module")
def sets(data_dir):
    return data.sources(data_dir)


def pictures(images):
    return {x.numpy().tobytes() for x in images}


def test_no_tested_picture_and_nothing_left_out_is_learnt_from(data_dir, sets):
    asked = data.questions(data_dir)
    assert all(len(question.images) == len(question.target) > 50 for question in asked.values())
    for name, source in sets.items():
        assert source.images.shape[1:] == (3, 32, 32) and source.images.dtype == torch.uint8
        assert len(source.images) == len(source.names) > 1000
        tested = [question for title, question in asked.items() if title.startswith(name)]
        # Some emoji, flags of the same design, are the same picture under two names.
        shared = sum(len(pictures(source.images) & pictures(question.images)) for question in tested)
        assert shared <= (10 if name == "emoji" else 0), name
    named = {name: {one for names in source.names for one in names} for name, source in sets.items()}
    assert not named["cifar10"] & set(data.CIFAR_CLASSES_LEFT_OUT) and len(named["cifar10"]) == 6
    assert len(named["pacs"]) == 7 and not named["emoji"] & set(data.EMOJI_GROUPS_NOT_NAMED)
    assert {"five", "number five"} <= named["mnist"] and not {"six", "nine"} & named["mnist"]
    assert {"six", "nine"} <= named["digits"]
    words = {word for one in named["emoji"] for word in one.replace(",", "").split()}
    for word in words & set(data.CIFAR_CLASSES_LEFT_OUT):
        assert word in data.USED["emoji"]  # what is left out as a photograph and is still named is said


def test_batches_depend_on_seed_and_step_and_hold_every_set(sets):
    recipe = Recipe(steps=2, batch=40)
    first, again, other = (list(pretraining.batches(sets, recipe, seed)) for seed in (0, 0, 1))
    assert len(first) == 2 and len(first[0][1]) == len(first[0][0]) == 40
    for (x, captions), (y, same) in zip(first, again, strict=True):
        assert_same_bits(x, y)
        assert captions == same
    assert first[0][1] != first[1][1] and first[0][1] != other[0][1]


def test_a_short_training_is_written_whole_and_read_back(data_dir, tmp_path, monkeypatch, capsys):
    few = {name: data.questions(data_dir)[name] for name in ("mnist, classes learnt", "pacs photo")}
    monkeypatch.setattr(pretraining, "questions", lambda folder: few)
    monkeypatch.setattr(
        pretraining, "SIZES", {**pretraining.SIZES, "width": 32, "layers": 1, "text_width": 32, "text_layers": 1}
    )
    written, kept = tmp_path / "clip", []
    monkeypatch.setattr(
        pretraining, "write", lambda clip, *rest, put=pretraining.write: kept.append(clip) or put(clip, *rest)
    )
    settings = ["--data", str(data_dir), "--out", str(written), "--steps", "3", "--batch", "24"]
    assert pretraining.main(settings) == 0
    read = load_clip("tiny", written)
    for name, x in kept[0].state_dict().items():
        assert_same_bits(read.state_dict()[name], x)
    about = json.loads((written / "about.json").read_text())
    assert set(about["zero-shot accuracy on test rows"]) == set(few) and about["training"]["steps"] == 3
    assert about["left out"]["cifar10 classes"] == list(data.CIFAR_CLASSES_LEFT_OUT)
    assert sorted(path.name for path in written.iterdir()) == sorted(
        ("about.json", "open_clip_config.json", "open_clip_model.safetensors")
    )
    assert "step 3 of 3" in capsys.readouterr().out
