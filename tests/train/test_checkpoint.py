"""What is written comes back bit for bit; anything damaged, foreign or half written is refused in a sentence."""

import json
import math

import pytest
import torch

from pyfast_mmcl._errors import CheckpointError
from pyfast_mmcl.train import checkpoint
from pyfast_mmcl.train.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from tests.check import assert_same_bits, raises_sentence

STATE = {
    "tensors": {
        "a": torch.randn(3, 4),
        "b.c": torch.arange(5),
        "empty": torch.zeros(0, 2),
        "scalar": torch.tensor(2.5),
    },
    "half": [torch.ones(2, dtype=torch.bfloat16), torch.tensor([True, False]), torch.tensor([1], dtype=torch.uint8)],
    "by number": {0: {"step": torch.tensor(3.0)}, 1: {}},
    "plain": {"tuple": (1, "two", None), "float": 0.1, "big": 2**62, "inf": -math.inf, "flag": True, "$odd": [1]},
}


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert_same_bits(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def test_everything_comes_back(tmp_path):
    save_checkpoint(tmp_path / "new" / "run", STATE)
    assert_same(load_checkpoint(tmp_path / "new" / "run"), STATE)


def test_tied_and_sliced_tensors_are_stored_whole(tmp_path):
    weight = torch.randn(4, 6)
    save_checkpoint(tmp_path, {"a": weight, "b": weight, "c": weight[:, ::2], "d": weight.t()})
    back = load_checkpoint(tmp_path)
    assert_same(back, {"a": weight, "b": weight, "c": weight[:, ::2], "d": weight.t()})


def test_nan_survives(tmp_path):
    save_checkpoint(tmp_path, {"x": math.nan})
    assert math.isnan(load_checkpoint(tmp_path)["x"])


def test_only_the_last_checkpoint_remains(tmp_path):
    for i in range(3):
        save_checkpoint(tmp_path, {"x": torch.full((3,), i)})
    assert len(list(tmp_path.iterdir())) == 2 and load_checkpoint(tmp_path)["x"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("stage", ["save_file", "replace_text"])
def test_a_failure_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch, stage):
    save_checkpoint(tmp_path, {"x": torch.ones(3)})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, stage, fail)
    with raises_sentence(CheckpointError, "cannot write", "No space left", str(tmp_path)):
        save_checkpoint(tmp_path, {"x": torch.zeros(3)})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["x"].tolist() == [1, 1, 1]
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*"))
    save_checkpoint(tmp_path, {"x": torch.zeros(3)})
    assert len(list(tmp_path.iterdir())) == 2


def files(folder):
    return folder / "checkpoint.json", next(folder.glob("tensors-*"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_cut_short_is_refused(tmp_path, which, share):
    save_checkpoint(tmp_path, STATE)
    path = files(tmp_path)[which]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with raises_sentence(CheckpointError, str(tmp_path), "new run"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("which", [0, 1])
def test_a_changed_byte_is_noticed(tmp_path, which):
    save_checkpoint(tmp_path, STATE)
    path = files(tmp_path)[which]
    content = bytearray(path.read_bytes())
    place = content.index(b"0.1") + 2 if which == 0 else len(content) - 3
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with raises_sentence(CheckpointError, "damaged"):
        load_checkpoint(tmp_path)


def test_missing_folder_and_missing_tensors(tmp_path):
    with raises_sentence(CheckpointError, "no checkpoint", "without resume"):
        load_checkpoint(tmp_path / "nowhere")
    assert not has_checkpoint(tmp_path)
    save_checkpoint(tmp_path, STATE)
    assert has_checkpoint(tmp_path)
    files(tmp_path)[1].unlink()
    with raises_sentence(CheckpointError, "missing or damaged"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"kind": "something else"}', "null", "3"])
def test_foreign_json_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.json").write_text(content)
    with raises_sentence(CheckpointError, "not a checkpoint of pyfast_mmcl"):
        load_checkpoint(tmp_path)


def test_another_format_is_refused_with_both_versions(tmp_path):
    save_checkpoint(tmp_path, STATE)
    path = tmp_path / "checkpoint.json"
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, "format": 99, "version": "9.9"}))
    with raises_sentence(CheckpointError, "format 99", "9.9", "reads format 1"):
        load_checkpoint(tmp_path)


def test_a_tensor_file_outside_the_folder_is_refused(tmp_path):
    save_checkpoint(tmp_path / "a", STATE)
    path = tmp_path / "a" / "checkpoint.json"
    body = json.loads(path.read_text())
    name = body["tensors"]["file"]
    (tmp_path / "a" / name).rename(tmp_path / name)
    body["tensors"]["file"] = f"../{name}"
    body.pop("sha256")
    path.write_text(json.dumps({**body, "sha256": checkpoint._digest_json(body)}))
    with raises_sentence(CheckpointError, "missing or damaged"):
        load_checkpoint(tmp_path / "a")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with raises_sentence(CheckpointError, "cannot write", "choose a folder"):
        save_checkpoint(tmp_path / "file" / "run", STATE)


def test_objects_that_are_no_data_are_refused(tmp_path):
    with raises_sentence(CheckpointError, "cannot store Linear at state.model"):
        save_checkpoint(tmp_path, {"model": torch.nn.Linear(1, 1)})


def test_tensors_that_vanish_while_they_are_read(tmp_path, monkeypatch):
    """Another process may replace the checkpoint between the check of the tensors and their reading."""
    save_checkpoint(tmp_path, {"a": torch.ones(3)})

    def vanished(path):
        raise FileNotFoundError(f"No such file or directory: {path}")

    monkeypatch.setattr("pyfast_mmcl.train.checkpoint.load_file", vanished)
    with raises_sentence(CheckpointError, "cannot be read", "another run"):
        load_checkpoint(tmp_path)


def test_places_of_one_name_are_two_tensors(tmp_path):
    state = {"a.b": torch.ones(1), "a": {"b": torch.ones(1) * 2}, "c": {1: torch.ones(1) * 3, "1": torch.ones(1) * 4}}
    save_checkpoint(tmp_path, state)
    back = load_checkpoint(tmp_path)
    assert [float(x) for x in (back["a.b"], back["a"]["b"], back["c"][1], back["c"]["1"])] == [1, 2, 3, 4]
