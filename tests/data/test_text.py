"""The tokeniser pads, marks unknown words and gives back the words it knows."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data.text import DIGIT_TEMPLATES, Tokenizer, digit_captions, digit_tokenizer


def test_ids_and_words():
    tokenizer = Tokenizer(["a", "cat"], 4)
    ids = tokenizer.encode(["A cat", "a dog  cat", ""])
    assert ids.tolist() == [[2, 3, 0, 0], [2, 1, 3, 0], [0, 0, 0, 0]] and len(tokenizer) == 4
    assert tokenizer.decode(ids) == ["a cat", "a <unknown> cat", ""]


def test_long_text_is_refused():
    with pytest.raises(InputError, match="at most 2 words, got 3"):
        Tokenizer(["a"], 2).encode(["a a a"])


def test_every_digit_caption_is_in_the_vocabulary_and_names_the_digit():
    tokenizer = digit_tokenizer()
    for numeral in (True, False):
        n = len(DIGIT_TEMPLATES) * 10
        digit, template = torch.arange(n) % 10, torch.arange(n) // 10
        captions = digit_captions(digit, template, torch.full((n,), numeral))
        assert len(set(captions)) == n
        assert tokenizer.decode(tokenizer.encode(captions)) == captions
    assert "seven" in digit_captions(torch.tensor([7]), torch.tensor([0]), torch.tensor([False]))[0]
