"""Streams from a user's own files: what every column becomes, who is in which task, in every scenario."""

import json

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import image_folder_stream, manifest_stream
from tests.check import raises_sentence
from tests.data.own_files import CLASSES, examples, picture, write_csv, write_json

N = 40
# What tests that are not about sound read: spectrograms take most of the time.
FEW = ("photo", "imu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def rows(folder):
    return examples(folder, N)


def rows_of(stream, split):
    return torch.cat([stream.rows(task.id, split) for task in stream.tasks])


def with_column(rows, name, cells):
    return [{**row, name: cell} for row, cell in zip(rows, cells, strict=True)]


def test_every_column_becomes_a_modality_of_its_kind(folder, rows):
    stream = manifest_stream(write_csv(folder / "all.csv", rows), n_tasks=2, image_size=6, length=5)
    assert stream.modalities == ("photo", "sound", "series", "caption", "imu") and stream.class_names == CLASSES
    inputs, present, target = stream.gather(torch.arange(N))
    assert target.tolist() == [i % 4 for i in range(N)]
    assert inputs["photo"].shape == (N, 3, 6, 6)
    assert (~present["photo"]).nonzero().flatten().tolist() == list(range(0, N, 7))
    shade = torch.tensor([1, 1 / 2, 0])[None, :] * 60 * (torch.arange(N) % 4)[:, None] / 255
    shown = present["photo"]
    torch.testing.assert_close(inputs["photo"][shown].mean((2, 3)), shade[shown], atol=2 / 255, rtol=0)
    assert inputs["photo"][~shown].eq(0).all()
    assert inputs["sound"].shape[:2] == (N, 40) and inputs["series"].shape == (N, 3, 5)
    assert inputs["caption"].dtype == torch.int64 and inputs["caption"].shape == (N, 5)
    assert inputs["imu"].shape == (N, 2) and stream.vocabulary > 4


def test_numbers_are_in_units_of_the_rows_trained_on(folder, rows):
    stream = manifest_stream(write_csv(folder / "units.csv", rows), n_tasks=2)
    trained = torch.cat([stream.rows(t) for t in range(2)])
    inputs = stream.gather(trained)[0]
    raw = torch.tensor([[0.5 * i, 100 - i] for i in range(N)])
    wanted = (raw[trained] - raw[trained].mean(0)) / raw[trained].std(0, correction=0)
    torch.testing.assert_close(inputs["imu"], wanted)
    for name in ("sound", "series"):
        torch.testing.assert_close(inputs[name].mean((0, 2)), torch.zeros(inputs[name].shape[1]), atol=1e-4, rtol=0)
    tested = stream.rows(0, "test")
    wanted = (raw[tested] - raw[trained].mean(0)) / raw[trained].std(0, correction=0)
    torch.testing.assert_close(stream.gather(tested)[0]["imu"], wanted)


def test_all_formats_tell_the_same(folder, rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    lines = folder / "same.jsonl"
    lines.write_text("\n\n".join(map(json.dumps, rows)))
    files = [
        write_csv(folder / "same.csv", rows),
        write_csv(folder / "same.tsv", rows, delimiter="\t"),
        write_csv(folder / "semicolon.csv", rows, delimiter=";"),
        write_json(folder / "rows.json", rows),
        write_json(folder / "columns.json", columns),
        lines,
    ]
    assert len({manifest_stream(file, n_tasks=2, modalities=FEW).fingerprint() for file in files}) == 1


def test_files_read_when_needed_give_the_same_batches(folder, rows):
    path = write_csv(folder / "lazy.csv", rows)
    kept, read = manifest_stream(path, n_tasks=2, image_size=8), manifest_stream(path, n_tasks=2, image_size=8, keep=0)
    for a, b in zip(kept.loader(1, seed=3), read.loader(1, seed=3), strict=True):
        assert all(torch.equal(a.inputs[m], b.inputs[m]) and torch.equal(a.present[m], b.present[m]) for m in a.inputs)
        assert torch.equal(a.target, b.target)


def test_splits_come_from_their_column(folder, rows):
    words = ["train", "", "val", "Test", "train", "test", "dev", "training"] * 5
    stream = manifest_stream(
        write_csv(folder / "split.csv", with_column(rows, "split", words)), n_tasks=1, modalities=FEW
    )
    for split, members in {"train": (0, 1, 4, 7), "validation": (2, 6), "test": (3, 5)}.items():
        assert stream.rows(0, split).tolist() == [i for i in range(N) if i % 8 in members]


def test_tasks_come_from_their_column_in_the_order_of_its_rows(folder, rows):
    names = ["home" if i % 4 in (1, 2) else "away" for i in range(N)]
    path = write_csv(folder / "task.csv", with_column(rows, "task", names))
    stream = manifest_stream(path, "til", modalities=FEW)
    assert [(t.name, t.classes) for t in stream.tasks] == [("away", (0, 3)), ("home", (1, 2))]
    numbered = write_csv(folder / "numbered.csv", with_column(rows, "task", [10 - 8 * (i % 2) for i in range(N)]))
    assert [t.name for t in manifest_stream(numbered, modalities=FEW).tasks] == ["2", "10"]


def test_domains_that_share_classes_are_noticed(folder, rows):
    domains = ["sun" if i % 8 < 4 else "rain" for i in range(N)]
    path = write_csv(folder / "domain.csv", with_column(rows, "domain", domains))
    stream = manifest_stream(path, modalities=FEW)
    assert stream.scenario.name == "dil" and [t.name for t in stream.tasks] == ["sun", "rain"]
    with raises_sentence(InputError, "'cat'", "'sun'", "'rain'", "dil"):
        manifest_stream(path, "cil", modalities=FEW)
    with raises_sentence(InputError, "2 tasks", "n_tasks=3"):
        manifest_stream(path, n_tasks=3, modalities=FEW)


def test_answers_are_generated_and_share_a_vocabulary_with_the_questions(folder, rows):
    answers = [f"a {CLASSES[i % 4]} of age {i % 3}" for i in range(N)]
    own = [{"photo": row["photo"], "question": row["caption"], "answer": a, "domain": i % 2}
           for i, (row, a) in enumerate(zip(rows, answers, strict=True))]  # fmt: skip
    stream = manifest_stream(write_csv(folder / "answers.csv", own), "gdil")
    target = stream.gather(torch.arange(N))[2]
    assert target.shape == (N, 5) and stream.n_classes == stream.vocabulary == len(stream.class_names)
    assert [" ".join(stream.class_names[i] for i in row if i) for row in target.tolist()][:2] == answers[:2]
    assert stream.n_tasks == 2 and stream.loader(0, "test")[0].task.eq(-1).all()
    with raises_sentence(InputError, "gdil", "task or domain"):
        manifest_stream(
            write_csv(folder / "untold.csv", [{"q": r["question"], "answer": r["answer"]} for r in own]), "gdil"
        )


@pytest.mark.parametrize("test", [0.2, list(range(0, N, 5)), torch.arange(N) % 5 == 0])
@pytest.mark.parametrize("scenario", ["cil", "gdil"])
def test_words_of_the_rows_tested_on_are_unknown(folder, test, scenario):
    own = [{"q": f"what is number{i}", "answer": f"sort {i % 8 // 2}", "domain": i % 2} for i in range(N)]
    own = own if scenario == "gdil" else [{"q": row["q"], "answer": row["answer"]} for row in own]
    stream = manifest_stream(write_json(folder / "words.json", own), scenario, test=test)
    for split, unknown in (("train", 0), ("test", 1)):
        ids = stream.gather(rows_of(stream, split))[0]["q"]
        assert ids[:, :2].gt(1).all() and (ids == 1).sum(1).eq(unknown).all()
    assert stream.vocabulary == 2 + 2 + len(rows_of(stream, "train")) + (5 if scenario == "gdil" else 0)


def test_modalities_of_a_task_are_those_that_its_rows_have(folder, rows):
    own = [{**row, "photo": row["photo"] if row["label"] in ("cat", "dog") else "",
            "series": row["series"] if row["label"] != "cat" else ""} for row in rows]  # fmt: skip
    stream = manifest_stream(write_csv(folder / "own.csv", own), "mdtil", 2, modalities=["photo", "series"])
    assert [t.modalities for t in stream.tasks] == [("photo", "series"), ("series",)]
    swapped = manifest_stream(folder / "own.csv", "mdtil", 2, modalities=["photo", "series"], class_order=[2, 3, 0, 1])
    assert [t.modalities for t in swapped.tasks] == [("series",), ("photo", "series")]
    assert all(swapped.gather(swapped.rows(t))[1]["series"].any() for t in range(2))
    given = with_column(own, "task", ["b" if r["label"] in ("cat", "dog") else "a" for r in own])
    stream = manifest_stream(write_csv(folder / "given.csv", given), "mdtil", modalities=["photo", "series"])
    assert [(t.name, t.modalities) for t in stream.tasks] == [("b", ("photo", "series")), ("a", ("series",))]


def test_pairs_need_no_target(folder, rows):
    own = [{"photo": f"p{i + 1 if i % 7 == 0 else i}.png", "text": f"text {i // 2}", "domain": i % 2} for i in range(N)]
    stream = manifest_stream(write_csv(folder / "pairs.csv", own), "dil", objective="pairs", test=0.5)
    assert stream.objective == "pairs"
    assert stream.gather(torch.arange(N))[2].tolist() == [i // 2 for i in range(N)], "the same text, the same target"
    sides = [set(stream.gather(rows_of(stream, split))[2].tolist()) for split in ("train", "test")]
    assert not sides[0] & sides[1] and len(sides[0]) == len(sides[1]) == N // 4, "a text is tested on or trained on"


def test_headers_may_name_the_kind_and_columns_may_be_chosen(folder, rows):
    own = [{"a:text": row["photo"] or "none", "b:number": i, "id": f"x{i}", "y": row["label"]}
           for i, row in enumerate(rows)]  # fmt: skip
    path = write_csv(folder / "kinds.csv", own)
    stream = manifest_stream(path, n_tasks=2, target="y", modalities=["a", "b:number"])
    assert stream.modalities == ("a", "b") and not stream.gather(torch.arange(2))[0]["a"].is_floating_point()
    with raises_sentence(UnknownNameError, "'c'"):
        manifest_stream(path, target="y", modalities=["c"])


def test_other_arguments_of_a_stream_pass_through(folder, rows):
    path = write_csv(folder / "through.csv", rows)
    stream = manifest_stream(
        path, n_tasks=2, modalities=FEW, missing_at_test={"photo": 1.0}, task_order="reversed", validation=0.25
    )
    assert stream.tasks[0].classes == (2, 3) and len(stream.rows(0, "validation"))
    assert not stream.loader(0, "test")[0].present["photo"].any()


def test_lists_of_numbers_keep_their_shape(folder):
    own = [{"x": [[i, 1], [2, 3], [4, i]], "label": i % 2} for i in range(20)]
    stream = manifest_stream(write_json(folder / "lists.json", own), n_tasks=1)
    assert stream.gather(torch.arange(3))[0]["x"].shape == (3, 3, 2) and stream.class_names == ("0", "1")


def test_folders_of_pictures_in_their_four_layouts(tmp_path):
    def make(*parts, n=10):
        place = tmp_path.joinpath(*parts)
        place.mkdir(parents=True)
        for i in range(n):
            picture(place / f"{i}.jpg", 20 * i)

    for label in CLASSES:
        make("plain", label)
        for domain in ("rain", "sun"):
            make("domains", domain, label)
            make("both", "train", domain, label, n=3)
            make("both", "test", domain, label, n=2)
        make("splits", "train", label, n=4)
        make("splits", "val", label, n=1)
        make("splits", "test", label, n=2)
    (tmp_path / "plain" / ".cache").mkdir()
    (tmp_path / "plain" / ".cache" / "x.png").write_bytes(b"hidden")
    (tmp_path / "plain" / "readme.txt").write_text("mine")
    plain = image_folder_stream(tmp_path / "plain", n_tasks=2, image_size=4)
    assert plain.class_names == CLASSES and [len(plain.rows(t, "test")) for t in range(2)] == [4, 4]
    domains = image_folder_stream(tmp_path / "domains", image_size=4)
    assert domains.scenario.name == "dil" and [t.name for t in domains.tasks] == ["rain", "sun"]
    splits = image_folder_stream(tmp_path / "splits", "til", 2, image_size=4)
    assert [len(splits.rows(0, s)) for s in ("train", "validation", "test")] == [8, 2, 4]
    both = image_folder_stream(tmp_path / "both", image_size=4)
    assert both.scenario.name == "dil" and [len(both.rows(1, s)) for s in ("train", "test")] == [12, 8]
    make("plain", "cat", "deeper")
    with raises_sentence(InputError, "cat/deeper/0.jpg", "class/picture.png"):
        image_folder_stream(tmp_path / "plain")
    with raises_sentence(InputError, "no folder"):
        image_folder_stream(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with raises_sentence(InputError, "no pictures", ".png"):
        image_folder_stream(tmp_path / "empty")


def test_the_same_seed_deals_the_same(folder, rows):
    path = write_csv(folder / "seed.csv", rows)
    prints = [manifest_stream(path, n_tasks=2, seed=seed, modalities=["series"]).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    changed = folder / "s0.npy"
    values = np.load(changed)
    np.save(changed, values + 1)
    assert manifest_stream(path, n_tasks=2, modalities=["series"]).fingerprint() != prints[0], (
        "other files are another stream"
    )
    np.save(changed, values)
