"""Streams from datasets objects: columns by their features, splits of a DatasetDict, damaged files by their row."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import hugging_face_stream
from tests.check import raises_sentence
from tests.data.own_files import picture, sound

datasets = pytest.importorskip("datasets", reason="needs the package datasets")
N = 24


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def columns(folder, n=N, **other):
    return {
        "img": [str(picture(folder / f"{i}.png", 10 * i)) if i % 5 else None for i in range(n)],
        "caption": [f"number {i}" for i in range(n)],
        "imu": [[float(i), 1.0, float(i % 3)] for i in range(n)],
        "label": [i % 4 for i in range(n)],
        **other,
    }


def features(**other):
    return datasets.Features(
        {
            "img": datasets.Image(),
            "caption": datasets.Value("string"),
            "imu": datasets.List(datasets.Value("float32"))
            if hasattr(datasets, "List")
            else [datasets.Value("float32")],
            "label": datasets.ClassLabel(names=["wasp", "ant", "bee", "moth"]),
            **other,
        }
    )


def test_columns_become_modalities_and_class_names_keep_their_order(tmp_path):
    own = datasets.Dataset.from_dict(columns(tmp_path), features=features())
    stream = hugging_face_stream(own, n_tasks=2, image_size=4)
    assert stream.modalities == ("img", "caption", "imu") and stream.class_names == ("wasp", "ant", "bee", "moth")
    inputs, present, target = stream.gather(torch.arange(N))
    assert target.tolist() == [i % 4 for i in range(N)]
    assert (~present["img"]).nonzero().flatten().tolist() == [0, 5, 10, 15, 20]
    torch.testing.assert_close(inputs["img"][7, 0], torch.full((4, 4), 70 / 255))
    assert inputs["caption"].dtype == torch.int64 and inputs["imu"].shape == (N, 3)
    chosen = hugging_face_stream(own.shuffle(seed=0), n_tasks=2, modalities=["imu"], keep=0)
    assert chosen.modalities == ("imu",)


def test_splits_of_a_dict_are_kept_and_sound_is_read(tmp_path):
    stored = [{"bytes": sound(tmp_path / f"{i}.wav", i % 4).read_bytes(), "path": None} for i in range(N)]
    plain = features(audio={"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
    whole = datasets.Dataset.from_dict(columns(tmp_path, audio=stored), features=plain)
    whole = whole.cast_column("audio", datasets.Audio())
    parts = datasets.DatasetDict(
        {
            "train": whole.select(range(16)),
            "validation": whole.select(range(16, 20)),
            "test": whole.select(range(20, 24)),
        }
    )
    stream = hugging_face_stream(parts, n_tasks=1, modalities=["audio", "img"])
    assert [stream.rows(0, s).tolist() for s in ("train", "validation", "test")] == [
        list(range(16)),
        list(range(16, 20)),
        list(range(20, 24)),
    ]
    assert stream.gather(torch.tensor([21]))[0]["audio"].shape[1] == 40


def test_what_makes_no_stream_is_said(tmp_path):
    own = datasets.Dataset.from_dict(columns(tmp_path), features=features())
    with raises_sentence(InputError, "streaming"):
        hugging_face_stream(own.to_iterable_dataset())
    with raises_sentence(InputError, "at least one row"):
        hugging_face_stream(own.select([]))
    with raises_sentence(InputError, "same columns"):
        hugging_face_stream(datasets.DatasetDict({"train": own, "test": own.remove_columns("imu")}))
    with raises_sentence(InputError, "no column of a modality"):
        hugging_face_stream(own.select_columns(["label"]))
    with raises_sentence(InputError, "'imu'", "empty in every row"):
        hugging_face_stream(datasets.Dataset.from_dict({"imu": [None] * N, "label": [i % 4 for i in range(N)]}))
    with raises_sentence(InputError, "datasets.Dataset", "list"):
        hugging_face_stream([1, 2])
    (tmp_path / "3.png").write_bytes(b"damaged")
    with raises_sentence(InputError, "train row 3", "no readable picture"):
        hugging_face_stream(own, n_tasks=2)
    unlabelled = own.map(lambda row, i: {"label": -1 if i == 9 else row["label"]}, with_indices=True)
    with raises_sentence(InputError, "row 9", "-1", "0 to 3"):
        hugging_face_stream(unlabelled, modalities=["imu"])
