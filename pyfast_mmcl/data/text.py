"""A small fixed vocabulary and a whitespace tokeniser, and captions that name a digit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError

PAD, UNKNOWN = "<pad>", "<unknown>"

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

DIGIT_TEMPLATES = (
    "a photo of the digit {}",
    "the number {} written by hand",
    "handwritten {}",
    "someone wrote a {} here",
    "this is a {}",
    "scan of a small grey {}",
    "{} in black ink",
    "a picture showing the figure {}",
)


class Tokenizer:
    """Splits at whitespace, lower case; id 0 pads and id 1 stands for a word outside the vocabulary.

    words: the vocabulary, in a fixed order; length S: every caption becomes S ids, longer ones are an error.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words = (PAD, UNKNOWN, *words)
        self.length = length
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def of(cls, texts: Iterable[str], length: int) -> Tokenizer:
        """The tokenizer that knows every word of ``texts``, in alphabetical order."""
        return cls(sorted({word for text in texts for word in _words(text)}), length)

    def encode(self, texts: Sequence[str], *, cut: bool = False) -> Tensor:
        """Token ids int64 [N, S] of N texts. A text of more than S words is cut, or else raises InputError."""
        rows = [[self._ids.get(word, 1) for word in _words(text)] for text in texts]
        if cut:
            rows = [row[: self.length] for row in rows]
        longest = max(map(len, rows), default=0)
        if longest > self.length:
            raise InputError(
                f"text: expected at most {self.length} words, got {longest}; raise length or shorten the text."
            )
        return torch.tensor([row + [0] * (self.length - len(row)) for row in rows], dtype=torch.int64)

    def decode(self, ids: Tensor) -> list[str]:
        """The texts of token ids [N, S]."""
        return [" ".join(self.words[i] for i in row if i) for row in ids.tolist()]


def _words(text: str) -> list[str]:
    return text.lower().split()


def digit_tokenizer() -> Tokenizer:
    """The tokeniser of the digit captions: every word of the templates, the names and the numerals."""
    words = {word for template in DIGIT_TEMPLATES for word in template.split()} - {"{}"}
    length = max(len(template.split()) for template in DIGIT_TEMPLATES)
    return Tokenizer((*sorted(words), *DIGIT_WORDS, *map(str, range(10))), length)


def digit_captions(digit: Tensor, template: Tensor, numeral: Tensor) -> list[str]:
    """One caption per row: ``digit`` [N] named by word or, where ``numeral`` [N] is true, by its numeral."""
    names = [str(d) if n else DIGIT_WORDS[d] for d, n in zip(digit.tolist(), numeral.tolist(), strict=True)]
    return [DIGIT_TEMPLATES[t].format(name) for t, name in zip(template.tolist(), names, strict=True)]
