"""Streams of the real data sets: who is trained on, who is tested on, and what a file must be."""

import gzip
import struct

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import (
    har_stream,
    omniglot_stream,
    permuted_mnist_stream,
    split_mnist_stream,
    spoken_digits_stream,
)
from pyfast_mmcl.data.folder import data_file, every_fifth, read_arrays
from pyfast_mmcl.data.har import SENSORS
from pyfast_mmcl.data.mnist import read_idx, read_mnist
from tests.check import raises_sentence


@pytest.fixture(scope="module")
def mnist(data_dir):
    return read_mnist(data_dir)


def write_idx(path, values, kind=8):
    head = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))
    return path


def test_idx_files_are_read_as_they_are_specified(tmp_path):
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(read_idx(write_idx(tmp_path / "a.gz", values)), values)


@pytest.mark.parametrize("damage", ["type", "short", "long", "header", "gzip"])
def test_damaged_idx_files_are_refused(tmp_path, damage):
    path = write_idx(tmp_path / "a.gz", np.arange(6).reshape(2, 3), kind=9 if damage == "type" else 8)
    data = gzip.decompress(path.read_bytes())
    changed = {"type": data, "short": data[:-1], "long": data + b"\0", "header": data[:6]}
    path.write_bytes(path.read_bytes()[:-9] if damage == "gzip" else gzip.compress(changed[damage]))
    with raises_sentence(InputError, "a.gz"):
        read_idx(path)


def test_a_missing_folder_or_file_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("PYFAST_MMCL_DATA", raising=False)
    with raises_sentence(InputError, "har.npz", "PYFAST_MMCL_DATA", "folder="):
        har_stream()
    monkeypatch.setenv("PYFAST_MMCL_DATA", str(tmp_path))
    with raises_sentence(InputError, "t10k-images-idx3-ubyte.gz", "does not exist"):
        split_mnist_stream()
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with raises_sentence(InputError, "x.npz"):
        read_arrays("x.npz")
    assert data_file("x.npz", tmp_path) == tmp_path / "x.npz"


def test_every_fifth_digit_is_tested_on_and_validation_leaves_it_out():
    used, tested = every_fifth(100, "test")
    assert used.all() and tested.nonzero().flatten().tolist() == list(range(4, 100, 5))
    used, validated = every_fifth(100, "validation")
    assert not (used & tested).any() and validated.nonzero().flatten().tolist() == list(range(3, 100, 5))
    with pytest.raises(UnknownNameError):
        every_fifth(100, "train")


def test_mnist_holds_what_it_should(mnist):
    images, digit = mnist
    assert images.shape == (10000, 28, 28) and images.dtype == torch.uint8 and int(images.max()) == 255
    assert digit.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("held_out", ["test", "validation"])
@pytest.mark.parametrize("scenario", ["cil", "til", "dil"])
def test_split_mnist_deals_two_digits_per_task(data_dir, mnist, scenario, held_out):
    stream = split_mnist_stream(scenario, held_out=held_out, folder=data_dir)
    images, digit = mnist
    used, tested = every_fifth(len(digit), held_out)
    digit, tested = digit[used], tested[used]
    assert stream.n_tasks == 5 and stream.n_classes == (2 if scenario == "dil" else 10)
    for t in range(5):
        train, test = stream.rows(t), stream.rows(t, "test")
        assert set(digit[train].tolist()) == {2 * t, 2 * t + 1} == set(digit[test].tolist())
        assert tested[test].all() and not tested[train].any()
        inputs, _, target = stream.gather(train[:5])
        assert torch.equal(target, digit[train[:5]] % (2 if scenario == "dil" else 10))
        torch.testing.assert_close(inputs["image"], images[used][train[:5]].flatten(1) / 255)
    with raises_sentence(InputError, "n_tasks"):
        split_mnist_stream("dil", 3, folder=data_dir)


def test_permuted_mnist_orders_the_pixels_of_every_task_anew(data_dir):
    stream = permuted_mnist_stream(3, rows=500, folder=data_dir)
    rows = [stream.rows(t, "test") for t in range(3)]
    assert [len(r) for r in rows] == [100] * 3 and stream.n_classes == 10
    digits = [stream.gather(r)[0]["image"] for r in rows]
    assert all(torch.equal(stream.gather(r)[2], stream.gather(rows[0])[2]) for r in rows)
    for other in digits[1:]:
        assert not torch.equal(other, digits[0])
        assert torch.equal(other.sort(1).values, digits[0].sort(1).values)
    another = permuted_mnist_stream(3, rows=500, folder=data_dir, seed=1)
    assert torch.equal(another.gather(rows[0])[0]["image"], digits[0])
    assert not torch.equal(another.gather(rows[1])[0]["image"], digits[1])


@pytest.fixture(scope="module")
def people(data_dir):
    return torch.from_numpy(read_arrays("har.npz", data_dir)["subject"])


@pytest.mark.parametrize("held_out", ["test", "validation"])
@pytest.mark.parametrize("scenario", ["cil", "til", "dil"])
def test_nobody_is_trained_on_and_tested_on(data_dir, people, scenario, held_out):
    stream = har_stream(scenario, held_out=held_out, folder=data_dir)
    used = people if held_out == "test" else people[(people - 1) % 3 != 2]
    trained = {int(p) for t in range(stream.n_tasks) for p in used[stream.rows(t)].unique()}
    tested = {int(p) for t in range(stream.n_tasks) for p in used[stream.rows(t, "test")].unique()}
    assert not trained & tested and trained | tested == set(used.unique().tolist())
    assert tested == {p for p in range(1, 19) if (p - 1) % 3 == (2 if held_out == "test" else 1)}
    if scenario == "dil":
        groups = [set(used[stream.task_of == t].unique().tolist()) for t in range(stream.n_tasks)]
        assert len(groups) == 3 and not any(a & b for a in groups for b in groups if a is not b)


def test_har_has_four_sensors_in_units_of_the_people_trained_on(data_dir):
    stream = har_stream(folder=data_dir, missing={SENSORS[2]: 0.25})
    assert stream.modalities == SENSORS and stream.class_names[2] == "walking"
    inputs, present, _ = stream.gather(torch.cat([stream.rows(t) for t in range(2)]))
    assert all(x.shape[1:] == (3, 64) for x in inputs.values())
    for name in (SENSORS[0], SENSORS[1], SENSORS[3]):
        torch.testing.assert_close(inputs[name].mean((0, 2)), torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close(inputs[name].std((0, 2)), torch.ones(3), atol=1e-4, rtol=0)
    share = present[SENSORS[2]].float().mean()
    assert 0.7 < share < 0.8 and not inputs[SENSORS[2]][~present[SENSORS[2]]].any()
    with raises_sentence(InputError, "n_tasks", "6"):
        har_stream("dil", 7, folder=data_dir)


@pytest.fixture(scope="module")
def recordings(data_dir):
    return read_arrays("spoken_digits.npz", data_dir)


def places_of(rows, pool):
    """Number of the first row of ``pool`` that each of ``rows`` is a copy of."""
    known = {row.tobytes(): i for i, row in reversed(list(enumerate(pool.numpy())))}
    return [known[row.tobytes()] for row in rows.numpy()]


@pytest.mark.parametrize("held_out", ["test", "validation"])
@pytest.mark.parametrize("scenario", ["cil", "dil"])
def test_digits_seen_and_heard_are_paired_within_their_class_and_side(data_dir, mnist, recordings, scenario, held_out):
    stream = spoken_digits_stream(scenario, held_out=held_out, folder=data_dir)
    images, digit = mnist
    used, image_tested = every_fifth(len(digit), held_out)
    take = torch.from_numpy(recordings["index"])
    fold = range(0, 5) if held_out == "test" else range(5, 10)
    sound = torch.from_numpy(recordings["x"]).float()
    trained = (take >= 5) if held_out == "test" else (take >= 10)
    sound = (sound - sound[trained].mean()) / sound[trained].std()
    pictures = images.unsqueeze(1).float() / 255
    pairs = {"train": 0, "test": 0}
    for split in pairs:
        for t in range(stream.n_tasks):
            rows = stream.rows(t, split)
            inputs, _, target = stream.gather(rows)
            seen = torch.tensor(places_of(inputs["image"], pictures))
            heard = torch.tensor(places_of(inputs["audio"], sound))
            assert torch.equal(digit[seen], target) and recordings["y"][heard].tolist() == target.tolist()
            assert len(seen.unique()) == len(rows) and used[seen].all()
            assert bool((image_tested[seen] == (split == "test")).all())
            assert {int(i) in fold for i in take[heard]} == {split == "test"}
            if held_out == "validation":
                assert int(take[heard].min()) >= 5
            if scenario == "dil":
                assert set(recordings["speaker"][heard].tolist()) == {t}
            pairs[split] += len(rows)
    assert pairs == {"train": 1800 if held_out == "test" else 1600, "test": 1000}


def test_the_seed_decides_the_pairs_and_what_is_missing(data_dir):
    streams = [spoken_digits_stream(folder=data_dir, seed=seed, missing={"audio": 0.5}) for seed in (0, 0, 1)]
    (a, present, _), (b, _, _), (c, other, _) = (stream.gather(stream.rows(0)) for stream in streams)
    assert torch.equal(a["image"], b["image"]) and not torch.equal(a["image"], c["image"])
    assert 0.4 < present["audio"].float().mean() < 0.6 and not torch.equal(present["audio"], other["audio"])
    with raises_sentence(InputError, "cil, til, dil or mdtil"):
        spoken_digits_stream("gdil", folder=data_dir)


@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_omniglot_is_tested_on_people_who_were_not_met(data_dir, held_out):
    data = read_arrays("omniglot.npz", data_dir)
    stream = omniglot_stream(held_out=held_out, folder=data_dir)
    assert [task.name for task in stream.tasks] == data["alphabets"].tolist()
    assert [len(task.classes) for task in stream.tasks] == [24, 22, 24, 40, 26]
    image, stroke = torch.from_numpy(data["image"]).unsqueeze(1).float() / 255, torch.from_numpy(data["stroke"]).float()
    people = {"train": range(1, 15), "test": range(15, 21)} if held_out == "test" else {}
    people = people or {"train": range(1, 11), "test": range(11, 15)}
    for split, drawers in people.items():
        rows = torch.cat([stream.rows(t, split) for t in range(5)])
        inputs, _, target = stream.gather(rows)
        drawn = places_of(inputs["stroke"], stroke)
        assert torch.equal(image[drawn], inputs["image"]) and data["y"][drawn].tolist() == target.tolist()
        assert set(data["drawer"][drawn].tolist()) == set(drawers) and len(rows) == 136 * len(drawers)


def test_omniglot_deals_characters_evenly_on_request(data_dir):
    stream = omniglot_stream("til", 8, folder=data_dir)
    assert [len(task.classes) for task in stream.tasks] == [17] * 8
    with raises_sentence(InputError, "cil, til or mdtil"):
        omniglot_stream("dil", folder=data_dir)
