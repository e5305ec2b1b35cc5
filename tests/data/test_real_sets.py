"""Pictures, emoji with names, requests and image sets in a row: who is trained on, who is tested on, what is shown."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import (
    STREAMS,
    clinc150_stream,
    clip_tokens,
    digits_stream,
    emoji_stream,
    get_stream,
    har_stream,
    omniglot_stream,
    pacs_stream,
    small_mtil_stream,
    spoken_digits_stream,
)
from pyfast_mmcl.data.folder import read_arrays, read_json
from pyfast_mmcl.data.har import SENSORS
from pyfast_mmcl.data.images import resized, rgb
from tests.check import raises_sentence


def rows_of(stream, split):
    return torch.cat([stream.rows(task.id, split) for task in stream.tasks])


def test_pictures_are_shrunk_as_an_average_and_grey_ones_get_three_channels():
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(8).expand(2, 16, 16)
    small = rgb(stripes, 4)
    assert small.shape == (2, 3, 4, 4) and small.dtype == torch.uint8
    assert (small[..., 1:-1].int() - 100).abs().max() <= 2, "stripes thinner than a pixel are grey"
    assert torch.equal(rgb(stripes), stripes.unsqueeze(1).expand(-1, 3, -1, -1))
    assert resized(torch.zeros((0, 3, 5, 5), dtype=torch.uint8), 4).shape == (0, 3, 4, 4)


def test_clip_tokens_are_those_of_the_tokenizer_of_the_model():
    from pyfast_mmcl.models.tiny_clip import clip_tokenizer

    texts = ["a photo of a dog", "Grinning FACE with big eyes", "", "naïve “quotes” & emoji 🙂", "long " * 40]
    for length in (3, 16, 77):
        assert torch.equal(clip_tokens(texts, length), clip_tokenizer(length)(texts))
    assert clip_tokens([]).shape == (0, 16)


def test_pacs_has_a_style_per_task_and_pixels_of_the_file(data_dir):
    data = read_arrays("pacs.npz", data_dir)
    stream = pacs_stream(folder=data_dir)
    assert [task.name for task in stream.tasks] == ["photo", "art painting", "cartoon", "sketch"]
    assert stream.class_names[-1] == "person" and all(task.classes == tuple(range(7)) for task in stream.tasks)
    row = int(stream.rows(2, "test")[3])
    inputs, _, target = stream.gather(torch.tensor([row]))
    torch.testing.assert_close(inputs["image"][0], torch.from_numpy(data["x"][row]).permute(2, 0, 1) / 255)
    assert int(target) == data["y"][row] and data["domain"][row] == 2 and row % 5 == 4
    assert [len(t.classes) for t in pacs_stream("til", folder=data_dir, size=8).tasks] == [3, 2, 2]
    with raises_sentence(InputError, "pacs_stream", "gdil"):
        pacs_stream("gdil", folder=data_dir)


@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_emoji_that_are_tested_on_are_trained_on_in_no_style(data_dir, held_out):
    stream = emoji_stream(held_out=held_out, folder=data_dir, size=16)
    data = read_arrays("emoji.npz", data_dir)
    assert stream.objective == "pairs" and [t.name for t in stream.tasks] == ["twemoji", "noto", "blob"]
    trained, tested = (set(stream.gather(rows_of(stream, split))[2].tolist()) for split in ("train", "test"))
    assert not trained & tested and {e % 5 for e in tested} == {4 if held_out == "test" else 3}
    assert held_out == "test" or not any(e % 5 == 4 for e in trained)
    rows = stream.rows(1, "test")
    inputs, _, emoji = stream.gather(rows)
    assert torch.equal(inputs["text"], clip_tokens([str(data["text"][e]) for e in emoji]))
    assert len(emoji.unique()) == len(emoji), "every emoji once per style"


def test_blank_and_repeated_emoji_are_left_out(data_dir):
    data = read_arrays("emoji.npz", data_dir)
    stream = emoji_stream(folder=data_dir)
    pictures = torch.from_numpy(data["x"]).permute(0, 1, 4, 2, 3)
    seen: dict[int, list[int]] = {}
    for style in range(3):
        rows = torch.cat([stream.rows(style, split) for split in ("train", "test")])
        inputs, _, emoji = stream.gather(rows)
        torch.testing.assert_close(inputs["image"], pictures[style, emoji] / 255)
        assert inputs["image"].flatten(1).std(1).min() > 0
        for e in emoji.tolist():
            seen.setdefault(e, []).append(style)
    repeated = (data["x"][1] == data["x"][2]).all((1, 2, 3)).nonzero()[0]
    assert len(repeated) == 202 and all(seen.get(int(e), [0, 1]) == [0, 1] for e in repeated)


def test_emoji_come_by_group_and_with_words_of_their_own(data_dir):
    stream = emoji_stream("cil", 3, folder=data_dir, size=8, tokenize="words", keywords=True, length=8)
    assert [t.name for t in stream.tasks] == ["smileys and emotion", "people and body", "animals and nature"]
    assert stream.n_tasks == 3 and 1000 < stream.vocabulary < 10_000
    words = stream.gather(rows_of(stream, "train"))[0]["text"]
    assert words.shape[1] == 8 and int(words.max()) < stream.vocabulary and not words.eq(1).any()
    assert stream.gather(rows_of(stream, "test"))[0]["text"].eq(1).any(), "some words of the test are unknown"
    own = emoji_stream(folder=data_dir, size=8, tokenize=lambda texts: torch.tensor([[len(t)] for t in texts]))
    assert own.gather(own.rows(0)[:1])[0]["text"].shape == (1, 1)
    with raises_sentence(InputError, "tokenize"):
        emoji_stream(folder=data_dir, tokenize=lambda texts: torch.zeros(3))
    with raises_sentence(UnknownNameError, "word", "words"):
        emoji_stream(folder=data_dir, tokenize="word")


def test_requests_come_by_domain_or_with_new_intents_of_every_domain(data_dir):
    parts = read_json("clinc150_full.json.gz", data_dir)
    domains = read_json("clinc150_domains.json.gz", data_dir)
    by_intent = clinc150_stream(folder=data_dir)
    assert [task.name for task in by_intent.tasks] == [d.replace("_", " ") for d in domains]
    assert {len(by_intent.rows(t, "train")) for t in range(10)} == {1500}
    assert {len(by_intent.rows(t, "test")) for t in range(10)} == {450}
    for row in (0, 777, 15_000 + 99):
        _, intent = [*parts["train"], *parts["test"]][row]
        assert by_intent.class_names[int(by_intent.gather(torch.tensor([row]))[2])] == intent.replace("_", " ")
    by_domain = clinc150_stream("dil", folder=data_dir)
    assert by_domain.n_tasks == 5 and all(task.classes == tuple(range(10)) for task in by_domain.tasks)
    intents = [set(by_intent.gather(rows)[2].tolist()) for rows in (by_domain.rows(t) for t in range(5))]
    assert [len(i) for i in intents] == [30] * 5 and len(set.union(*intents)) == 150
    assert len(rows_of(clinc150_stream(folder=data_dir, held_out="validation"), "test")) == 3000
    with raises_sentence(InputError, "15"):
        clinc150_stream("dil", 16, folder=data_dir)


def test_image_sets_in_a_row_have_classes_of_their_own(data_dir):
    stream = small_mtil_stream(folder=data_dir, rows=200)
    assert [task.name for task in stream.tasks] == ["cifar10", "digits", "pacs", "emoji", "omniglot"]
    assert [len(task.classes) for task in stream.tasks] == [10, 10, 7, 9, 5] and stream.n_classes == 41
    assert stream.class_names[10] == "zero" and stream.class_names[-1] == "Latin letter"
    batch = stream.loader(3, "test")[0]
    assert batch.inputs["image"].shape[1:] == (3, 32, 32) and batch.task.eq(3).all()
    assert all(len(stream.rows(t)) + len(stream.rows(t, "test")) == 200 for t in range(5))
    again = small_mtil_stream("cil", 2, folder=data_dir, rows=200, seed=5)
    assert torch.equal(again.rows(1), stream.rows(1)) and again.n_tasks == 2
    with raises_sentence(UnknownNameError, "cifar"):
        small_mtil_stream(folder=data_dir, sets=("cifar",))
    with raises_sentence(InputError, "different image sets"):
        small_mtil_stream(folder=data_dir, sets=("pacs", "pacs"))


def test_modality_dynamic_streams_of_the_real_sets(data_dir):
    har = har_stream("mdtil", folder=data_dir)
    assert [t.modalities for t in har.tasks] == [SENSORS[:2], SENSORS[2:], SENSORS]
    assert [t.classes for t in har.tasks] == [tuple(range(5 * t, 5 * t + 5)) for t in range(3)]
    assert har.class_names[7] == "walking (watch)" and har.loader(1, "test")[0].task.eq(1).all()
    walking = har.rows(1)[har.gather(har.rows(1))[2] == 7]
    plain = har_stream("dil", folder=data_dir)
    assert torch.equal(har.rows(2), plain.rows(2)) and set(plain.gather(walking)[2].tolist()) == {2}
    names = {"digits": ("image", "text"), "spoken": ("image", "audio"), "omniglot": ("image", "stroke")}
    for (a, b), stream in zip(
        names.values(),
        (
            digits_stream("mdtil"),
            spoken_digits_stream("mdtil", folder=data_dir),
            omniglot_stream("mdtil", folder=data_dir),
        ),
        strict=True,
    ):
        assert [t.modalities for t in stream.tasks] == [(a,), (b,), (a, b), (a,), (b,)]


def test_streams_are_found_by_name():
    assert get_stream("digits") is digits_stream and all(f.__name__ == f"{name}_stream" for name, f in STREAMS.items())
    with raises_sentence(UnknownNameError, "emoji"):
        get_stream("emojis")
