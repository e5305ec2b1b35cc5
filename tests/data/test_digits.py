"""The digits stream: real images, captions of the stated noise, three scenarios."""

import pytest
import torch
from sklearn.datasets import load_digits

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.data.text import DIGIT_WORDS, digit_tokenizer


def columns(stream, n=1797):
    return stream.gather(torch.arange(n))


def named(captions):
    """The digit that each caption names."""
    return torch.tensor([next(i for i, w in enumerate(DIGIT_WORDS) if {w, str(i)} & set(c.split())) for c in captions])


def test_images_and_labels_are_those_of_the_digits():
    inputs, present, target = columns(digits_stream())
    bunch = load_digits()
    assert inputs["image"].shape == (1797, 1, 8, 8) and float(inputs["image"].max()) == 1.0
    assert torch.equal(inputs["image"][:, 0] * 16, torch.from_numpy(bunch.images).float())
    assert torch.equal(target, torch.from_numpy(bunch.target)) and present["text"].all()


def test_captions_are_right_as_often_as_stated():
    stream = digits_stream()
    inputs, _, target = columns(stream)
    captions = digit_tokenizer().decode(inputs["text"])
    right = (named(captions) == target).double().mean().item()
    assert right == pytest.approx(0.82, abs=0.03) and stream.vocabulary == len(digit_tokenizer())
    assert len({frozenset(c.split()) - set(DIGIT_WORDS) - set("0123456789") for c in captions}) == 8
    clean, _, _ = columns(digits_stream(caption_noise=0.0))
    assert torch.equal(named(digit_tokenizer().decode(clean["text"])), target)


def test_five_tasks_of_two_digits_by_default():
    for scenario in ("cil", "til"):
        stream = digits_stream(scenario)
        assert [t.classes for t in stream.tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert stream.tasks[1].name == "two three" and stream.class_names == DIGIT_WORDS


def test_domains_are_quarter_turns_with_captions_of_their_own():
    stream = digits_stream("dil", 3)
    inputs, _, target = columns(stream, 3 * 1797)
    assert torch.equal(inputs["image"][1797 + 5], inputs["image"][5].rot90(1, (1, 2)))
    assert torch.equal(target[:1797], target[1797:3594]) and len(stream.tasks) == 3
    assert not torch.equal(inputs["text"][:1797], inputs["text"][1797:3594])


def test_the_same_seed_gives_the_same_stream():
    assert digits_stream().fingerprint() == digits_stream().fingerprint() != digits_stream(seed=1).fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modalities": ["audio"]}, "unknown modality"),
        ({"caption_noise": 1.5}, "share in"),
        ({"scenario": "dil", "n_tasks": 5}, "quarter turns"),
        ({"n_tasks": 0}, "number of classes"),
    ],
)
def test_bad_choices(change, words):
    with pytest.raises(InputError, match=words):
        digits_stream(**change)
