"""Every kind of damaged file of a user: one sentence that names the place and what to do."""

import json

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import manifest_stream
from pyfast_mmcl.data.table import read_table
from tests.check import raises_sentence
from tests.data.own_files import examples, picture, sound, write_csv, write_json


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", ("a.csv", "empty")),
        ("a.csv", b" \n\n", ("a.csv", "empty")),
        ("a.csv", b",,\n,,\n", ("a.csv", "header")),
        ("a.csv", b"x,label\n", ("a.csv", "no rows")),
        ("a.csv", b"x,label\n1,2,3\n", ("line 2", "2 cells", "3", "quotes")),
        ("a.csv", b"x,label\n1,2\n\n1\n", ("line 4", "2 cells", "1")),
        ("a.csv", b"x,x\n1,2\n", ("'x'", "twice")),
        ("a.csv", b"x,,label\n1,2,3\n", ("column 2", "no name")),
        ("a.csv", b'x,label\n"1,2\n', ("line", "quotes")),
        ("a.csv", b'x,label\n"a"b,2\n', ("line 2", "quotes")),
        ("a.csv", b"x,label\n\xff\xfe,2\n", ("UTF-8", "byte 8")),
        ("a.csv", b"x,label\n1\0,2\n", ("zero bytes",)),
        ("a.csv", b"x,label\n" + b"9" * 200_000 + b",1\n", ("line", "field")),
        ("a.json", b'[{"x": 1},', ("a.json", "no JSON")),
        ("a.json", b"3", ("a.json", "list of rows", "value 3")),
        ("a.json", b"[]", ("a.json", "no rows")),
        ("a.json", b"[1, 2]", ("row 1", "object")),
        ("a.json", b'[{"x": {"y": 1}}]', ("row 1", "'x'", "an object")),
        ("a.json", b'{"x": [1, 2], "label": [1]}', ("different lengths", "'x': 2")),
        ("a.json", b'{"x": 1}', ("list of rows", "an object")),
        ("a.json", b"[" * 100_000, ("no JSON",)),
        ("a.jsonl", b'{"x": 1}\n{"x"\n', ("line 2", "no JSON")),
        ("a.jsonl", b'{"x": 1}\n"x"\n', ("line 2", "text")),
        ("a.xlsx", b"PK", ("ending", ".csv")),
    ],
)
def test_damaged_tables(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with raises_sentence(InputError, *words):
        read_table(tmp_path / name)


def test_unusual_but_whole_tables_are_read(tmp_path):
    odd = "a\u2028b\x0cc"
    (tmp_path / "a.csv").write_bytes(f'\ufeffx,label\r\n"two\r\nlines, one cell",1\r\n{odd},2\r\n'.encode())
    table = read_table(tmp_path / "a.csv")
    assert table.columns == {"x": ["two\nlines, one cell", odd], "label": ["1", "2"]}
    assert table.where == ["a.csv line 3", "a.csv line 4"]
    row = json.dumps({"x": "a\u2028bc"}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(row + '\n\n{"label": 1}\n', encoding="utf-8")
    assert read_table(tmp_path / "a.jsonl").columns == {"x": ["a\u2028bc", None], "label": [None, 1]}


def test_tables_that_are_not_there(tmp_path):
    with raises_sentence(InputError, "missing.csv", "cannot be read"):
        read_table(tmp_path / "missing.csv")
    (tmp_path / "folder.csv").mkdir()
    with raises_sentence(InputError, "folder.csv", "cannot be read"):
        read_table(tmp_path / "folder.csv")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    return folder, examples(folder, 16)


def changed(whole, column, cell, row=5):
    folder, rows = whole
    own = [dict(r) for r in rows]
    own[row][column] = cell
    return write_csv(folder / "changed.csv", own)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("photo", "nowhere.png", ("line 7", "nowhere.png", "root=")),
        ("photo", "a cat", ("line 7", "'photo'", "'a cat'", "photo:text")),
        ("photo", "w1.wav", ("line 7", "w1.wav", "image files")),
        ("sound", "w1.mp3", ("line 7", "w1.mp3", ".wav")),
        ("series", ".", ("line 7", "'series'")),
        ("imu.x", "", ("line 7", "'imu.x'", "fill in all or none")),
        ("imu.x", "nan", ("line 7", "'imu.x'", "finite")),
        ("imu.x", "1e999", ("line 7", "'imu.x'", "finite")),
        ("imu.x", "1e39", ("line 7", "'imu.x'", "too large")),
        ("imu.x", "n/a", ("line 7", "'imu.x'", "'n/a'", "imu.x:text")),
        ("label", "", ("line 7", "label", "empty")),
    ],
)
def test_damaged_cells(whole, column, cell, words):
    with raises_sentence(InputError, *words):
        manifest_stream(changed(whole, column, cell), n_tasks=2)


@pytest.mark.parametrize("cells", [["1,5", "2", "0,25", "3,5"], ["1.5", "2", "?", "3.5"]])
def test_damaged_numbers_do_not_become_text(tmp_path, cells):
    own = [{"x": cell, "label": i % 2} for i, cell in enumerate(cells * 5)]
    with raises_sentence(InputError, "line", "'x'", "decimal point", "x:text"):
        manifest_stream(write_csv(tmp_path / "a.csv", own, delimiter=";"))
    named = manifest_stream(write_csv(tmp_path / "b.csv", [{"x:text": r["x"], "label": r["label"]} for r in own]))
    assert named.modalities == ("x",)
    answers = [{"x": ("7", "some", "words")[i % 3], "label": i % 2} for i in range(20)]
    assert manifest_stream(write_csv(tmp_path / "c.csv", answers)).vocabulary is not None, "texts may hold numbers"


def test_whole_numbers_beyond_every_float(tmp_path):
    for cell in (10**400, [10**400, 1], [1e39, 1]):
        own = [{"x": cell if i == 3 else 1 if not isinstance(cell, list) else [1, 1], "label": i % 2} for i in range(9)]
        with raises_sentence(InputError, "row 4", "'x'"):
            manifest_stream(write_json(tmp_path / "a.json", own))
    np.save(tmp_path / "large.npy", np.array([1e39]))
    np.save(tmp_path / "small.npy", np.array([1.0]))
    own = [{"x": "large.npy" if i == 3 else "small.npy", "label": i % 2} for i in range(9)]
    with raises_sentence(InputError, "row 4", "large.npy", "too large"):
        manifest_stream(write_json(tmp_path / "b.json", own))


def test_rows_without_any_modality(whole):
    folder, rows = whole
    own = [{name: row[name] for name in ("photo", "series", "label")} for row in rows]
    own[5] = {**own[5], "photo": "", "series": ""}
    with raises_sentence(InputError, "line 7", "every modality is empty"):
        manifest_stream(write_csv(folder / "nothing.csv", own), n_tasks=2)
    own[5] = {**own[5], "series": rows[5]["series"]}
    chosen = manifest_stream(write_csv(folder / "one.csv", own), n_tasks=2, modalities="photo")
    assert not chosen.gather(torch.tensor([5]))[1]["photo"].any(), "whoever chooses a modality takes its gaps"


@pytest.mark.parametrize("length", [0, -1, 2.5])
def test_texts_of_no_length(whole, length):
    folder, rows = whole
    with raises_sentence(InputError, "length", str(length)):
        manifest_stream(write_csv(folder / "text.csv", rows), n_tasks=2, modalities="caption", length=length)


def damaged(folder, name, write):
    """A path that ``write`` filled, in the folder of the manifest."""
    write(folder / name)
    return name


def cut(path, make):
    make(path)
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) * 2 // 3])


FILES = {
    "no picture": ("photo", "x.png", lambda p: p.write_bytes(b"no picture at all"), ("no readable picture",)),
    "empty picture": ("photo", "x.png", lambda p: p.write_bytes(b""), ("no readable picture",)),
    "cut picture": ("photo", "x.png", lambda p: cut(p, lambda q: picture(q, 9, size=(64, 64))), ("no readable",)),
    "cut jpeg": ("photo", "x.jpg", lambda p: cut(p, lambda q: picture(q, 9, size=(64, 64))), ("no readable",)),
    "float picture": ("photo", "x.tif", lambda p: picture(p, 9, mode="F"), ("mode F", "8 bits")),
    "no sound": ("sound", "x.wav", lambda p: p.write_bytes(b"RIFFxxxx"), ("no whole WAV",)),
    "empty sound": ("sound", "x.wav", lambda p: p.write_bytes(b""), ("no whole WAV",)),
    "cut sound": ("sound", "x.wav", lambda p: cut(p, lambda q: sound(q, 1)), ("no whole WAV",)),
    "silent sound": ("sound", "x.wav", lambda p: sound(p, 1, seconds=0), ("no samples",)),
    "no array": ("series", "x.npy", lambda p: p.write_bytes(b"\x93NUMPY"), ("no readable .npy",)),
    "objects": ("series", "x.npy", lambda p: np.save(p, np.array([{}]), allow_pickle=True), ("no readable .npy",)),
    "words": ("series", "x.npy", lambda p: np.save(p, np.array(["a"])), ("not numbers",)),
    "nothing": ("series", "x.npy", lambda p: np.save(p, np.zeros((0, 3), np.float32)), ("not numbers",)),
    "not finite": ("series", "x.npy", lambda p: np.save(p, np.full((3, 5), np.inf, np.float32)), ("NaN or infinity",)),
    "other shape": ("series", "x.npy", lambda p: np.save(p, np.zeros((3, 6), np.float32)), ("(3, 6)", "(3, 5)")),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("keep", [2**30, 0])
def test_damaged_files_are_named_with_their_line(whole, what, keep):
    column, name, write, words = FILES[what]
    path = changed(whole, column, damaged(whole[0], name, write))
    with raises_sentence(InputError, "line 7", *words):
        stream = manifest_stream(path, n_tasks=2, keep=keep, modalities=[column])
        stream.gather(torch.tensor([5]))


def test_pictures_of_other_modes_are_read(whole):
    folder, _ = whole
    for name, how in {
        "grey.png": {"mode": "L"},
        "deep.png": {"mode": "I;16"},
        "palette.gif": {"mode": "RGB"},
    }.items():
        picture(folder / name, 200, **how)
        stream = manifest_stream(changed(whole, "photo", name), n_tasks=2, image_size=4, modalities="photo")
        assert stream.gather(stream.rows(0))[0]["photo"].isfinite().all()


def test_a_transparent_picture_stands_on_white(whole):
    from PIL import Image

    folder, _ = whole
    Image.new("RGBA", (5, 5), (0, 0, 0, 0)).save(folder / "clear.png")
    stream = manifest_stream(changed(whole, "photo", "clear.png"), n_tasks=2, image_size=4, modalities="photo")
    assert stream.gather(torch.tensor([5]))[0]["photo"].eq(1).all()


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        ([{"x": 1, "y": 1}], {}, ("called target", "target=")),
        ([{"x": 1, "y": 1}], {"target": "z"}, ("'z'", "target=")),
        ([{"x": 1, "label": 1, "class": 2}], {}, ("label", "class", "target=")),
        ([{"label": 1}, {"label": 2}], {}, ("no column of a modality",)),
        ([{"x": i, "label": 1} for i in range(9)], {}, ("one class", "'1'")),
        ([{"x": i, "label": i / 2} for i in range(9)], {}, ("row 2", "0.5", "no class")),
        ([{"x": i, "label": [i]} for i in range(9)], {}, ("row 1", "label", "list")),
        ([{"x": None, "label": i % 2} for i in range(9)], {}, ("'x'", "empty in every row")),
        ([{"x": "a", "x:text": "b", "label": i % 2} for i in range(9)], {}, ("one modality 'x'",)),
        ([{"x:picture": "a", "label": i % 2} for i in range(9)], {}, ("kind of column", "picture")),
        ([{"x": [1, 2][: 1 + i % 2], "label": i % 2} for i in range(9)], {}, ("row 2", "shape")),
        ([{"x": ["a"], "label": i % 2} for i in range(9)], {}, ("row 1", "numbers")),
        ([{"x": "a" if i else [1], "label": i % 2} for i in range(9)], {}, ("row 1", "list among texts")),
        ([{"x": i, "label": i % 2, "split": "tests"} for i in range(9)], {}, ("row 1", "'tests'", "validation")),
        ([{"x": i, "label": i % 2, "split": "train"} for i in range(9)], {}, ("'split'", "test")),
        ([{"x": i, "label": i % 2, "task": None} for i in range(9)], {}, ("row 1", "task", "empty")),
        ([{"x": i, "label": i % 2} for i in range(9)], {"scenario": "dil"}, ("dil", "domain")),
        ([{"x": i, "label": i % 2} for i in range(9)], {"image_size": 0}, ("image_size",)),
        ([{"x": i, "label": i % 2} for i in range(9)], {"audio_seconds": -1}, ("audio_seconds",)),
        ([{"x": "a", "label": i % 2} for i in range(9)], {"tokenize": "letters"}, ("letters", "words")),
    ],
)
def test_tables_that_make_no_stream(tmp_path, rows, arguments, words):
    with raises_sentence(InputError, *words):
        manifest_stream(write_json(tmp_path / "rows.json", rows), **arguments)
