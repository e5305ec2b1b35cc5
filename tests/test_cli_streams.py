"""`pyfast-mmcl train --stream`: a user's own files from the command line, and every mistake in them one sentence."""

import json
import os

import pytest

from pyfast_mmcl import cli_streams
from pyfast_mmcl.data import STREAMS
from tests.data.own_files import CLASSES, examples, picture, write_csv
from tests.test_cli import call, refused

TRAIN = ("train", "--epochs", "1", "--tasks", "2")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return write_csv(folder / "manifest.csv", examples(folder, 32))


def test_a_manifest_is_trained_on_and_resumed_from_another_folder(tmp_path, manifest, monkeypatch):
    monkeypatch.chdir(manifest.parent)
    chosen = ("--stream-set", 'modalities=["photo", "imu"]', "--stream-set", "image_size=8")
    code, text = call(*TRAIN, "--stream", "manifest.csv", *chosen, "--out", tmp_path / "run")
    assert code == 0 and "class-incremental" in text, text
    options = json.loads((tmp_path / "run" / "run.json").read_text())["options"]
    assert options["stream"] == str(manifest) and options["stream_set"]["image_size"] == 8
    monkeypatch.chdir(tmp_path)
    again = ("train", "--out", tmp_path / "run", "--resume", "--stream", os.path.relpath(manifest))
    assert call(*again)[0] == 0
    assert "image_size" in refused(*again, "--stream-set", "image_size=9")


def test_a_folder_of_pictures_is_trained_on(tmp_path):
    for label in CLASSES:
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(6):
            picture(tmp_path / "pictures" / label / f"{i}.png", 40 * i)
    code, text = call(*TRAIN, "--stream", tmp_path / "pictures", "--scenario", "til", "--out", tmp_path / "run")
    assert code == 0 and "task-incremental" in text


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("x,label\n1,2,3\n", (), ("line 2", "2 cells")),
        ("x,label\n1,a\n2,a\n", (), ("one class",)),
        ("x,label\nno.png,a\n2,b\n", (), ("line 2", "no.png")),
        ("x,label\n1,a\n2,b\n3,a\n4,b\n", ("--scenario", "dil"), ("task or domain",)),
        ("x,label\n1,a\n2,b\n3,a\n4,b\n", ("--stream-set", "imagesize=3"), ("imagesize", "image_size")),
        ("x,label\n1,a\n2,b\n3,a\n4,b\n", ("--stream-set", "missing=x"), ("missing", "expected", "'x'")),
        ("x,label\n1,a\n2,b\n3,a\n4,b\n", ("--stream-set", "missing"), ("--stream-set expects",)),
        ("x,label\n1,a\n2,b\n", (), ("no test rows",)),
    ],
)
def test_damaged_files_are_refused_before_anything_is_written(tmp_path, content, arguments, words):
    (tmp_path / "mine.csv").write_text(content)
    text = refused(*TRAIN, "--stream", tmp_path / "mine.csv", *arguments, "--out", tmp_path / "run")
    assert all(word in text for word in words), text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stream", "mine.csv"), ("mine.csv", "no such file")),
        (("--stream", "./nowhere"), ("nowhere", "no such file")),
        (("--stream", "emojis"), ("emojis", "emoji")),
        (("--stream", "digits", "--stream-set", "size=3"), ("size", "argument of the stream")),
        (("--stream", "digits", "--scenario", "gdil"), ("gdil", "mdtil")),
        (("--stream", "digits", "--tasks", "2", "--stream-set", "n_tasks=3"), ("--tasks 2", "n_tasks", "contradict")),
    ],
)
def test_streams_that_do_not_exist_are_named(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    text = refused(*TRAIN, *arguments, "--out", tmp_path / "run")
    assert all(word in text for word in words), text


def test_digits_take_the_knobs_of_every_stream():
    options = {"stream": "digits", "scenario": "mdtil", "tasks": 3, "seed": 0}
    knobs = {"missing_at_test": {"text": 0.5}, "long_tail": 10, "task_order": "reversed", "validation": 0.1}
    stream = cli_streams.build_stream({**options, "stream_set": knobs})
    assert [t.modalities for t in stream.tasks] == [("image", "text"), ("text",), ("image",)]
    assert len(stream.rows(0, "validation"))


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "digits"])
def test_real_sets_are_streams_by_name(data_dir, monkeypatch, name):
    monkeypatch.setenv("PYFAST_MMCL_DATA", str(data_dir))
    stream = cli_streams.build_stream({"stream": name, "scenario": None, "tasks": 2, "seed": 1, "stream_set": {}})
    assert stream.n_tasks == 2
