"""Reference pictures and texts from tensors and files, and sentences for what is neither."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.reference_texts import NOUNS, reference_texts
from pyfast_mmcl.models.zero_shot import text_tokens
from pyfast_mmcl.train.reference import read_images, read_texts
from tests.check import raises_sentence


def test_pictures_come_from_tensors_and_files(tmp_path):
    x = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    assert read_images(x) is x
    for name, array in (("first.npy", x.numpy()), ("last.npy", x.permute(0, 2, 3, 1).numpy())):
        np.save(tmp_path / name, array)
        assert torch.equal(read_images(tmp_path / name), x)


@pytest.mark.parametrize("array", [np.zeros((2, 5, 4, 4)), np.zeros((0, 3, 4, 4)), np.array(["a"]), np.zeros(3)])
def test_other_files_of_pictures_are_sentences(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    with raises_sentence(InputError, "images"):
        read_images(tmp_path / "x.npy")


def test_pickles_and_missing_files_are_sentences(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in ("x.npy", "nowhere.npy"):
        with raises_sentence(InputError, name):
            read_images(str(tmp_path / name))
        with raises_sentence(InputError, "nowhere.txt"):
            read_texts(tmp_path / "nowhere.txt", 16)
    with raises_sentence(InputError, "images", "list"):
        read_images([1, 2])


def test_texts_come_from_sentences_files_ids_or_the_package(tmp_path):
    sentences = ["a red fox", "two boats"]
    (tmp_path / "texts.txt").write_text("a red fox\n\ntwo boats\n", encoding="utf-8")
    ids = text_tokens(sentences)
    assert torch.equal(read_texts(sentences, 16), ids) and torch.equal(read_texts(tmp_path / "texts.txt", 16), ids)
    assert read_texts(ids, 99) is ids
    own = read_texts(None, 16)
    assert own.shape == (len(NOUNS), 16) and len(set(reference_texts())) == len(NOUNS)
    with raises_sentence(InputError, "texts", "none"):
        read_texts(["", " "], 16)
    with raises_sentence(InputError, "texts", "[M, S]"):
        read_texts(torch.zeros(3, 4), 16)
