"""Texts as token ids, in one of two ways or by any function of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data.clip_text import CLIP_VOCABULARY, clip_tokens
from pyfast_mmcl.data.text import Tokenizer

Tokenize = str | Callable[[Sequence[str]], Tensor]


class TextEncoder:
    """texts → token ids int64 [N, S], one vocabulary for questions, captions and answers.

    how     "clip": CLIP's vocabulary; "words": the words of ``train``, no others are known; or a function of texts that
            returns ids [N, S]
    train   the texts that words may be learnt from
    ``vocabulary`` is the number of ids (of a function: its ``vocab_size``, else the largest id met and one more);
    ``words`` names them where that is possible. Raises UnknownNameError for another name.
    """

    def __init__(self, how: Tokenize, train: Iterable[str]) -> None:
        if not callable(how) and how not in ("clip", "words"):
            raise unknown_name("way to tokenize", how, ("clip", "words"))
        self._how = how
        self._words = Tokenizer.of(train, 1) if how == "words" else None
        self.words = self._words.words if self._words else None
        self.vocabulary = len(self._words) if self._words else CLIP_VOCABULARY if how == "clip" else 1
        self.vocabulary = int(getattr(how, "vocab_size", self.vocabulary))

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Token ids [N, length]; longer texts are cut, shorter ones padded with 0. A function has its own length."""
        whole_number("length", length)
        if callable(self._how):
            ids = torch.as_tensor(self._how(list(texts)))
            if ids.ndim != 2 or len(ids) != len(texts) or ids.is_floating_point() or bool((ids < 0).any()):
                raise InputError(
                    f"tokenize: expected ids from 0 of shape [{len(texts)}, S], got {ids.dtype} {tuple(ids.shape)}."
                )
            self.vocabulary = max(self.vocabulary, int(ids.max()) + 1 if ids.numel() else 1)
            return ids.to(torch.int64)
        if self._words is None:
            return clip_tokens(texts, length)
        return Tokenizer(self._words.words[2:], length).encode(texts, cut=True)


def encode_texts(texts: Sequence[str], how: Tokenize, length: int, train: Iterable[int] | Tensor) -> tuple[Tensor, int]:
    """Token ids int64 [N, S] of N texts, and the number of ids; ``train`` are the rows that words are learnt from."""
    encoder = TextEncoder(how, [texts[int(row)] for row in train])
    ids = encoder.encode(texts, length)
    return ids, encoder.vocabulary
