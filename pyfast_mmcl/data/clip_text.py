"""CLIP's token ids, from the vocabulary that comes with open_clip."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import BackendError, InputError, unknown_name, whole_number
from pyfast_mmcl.data.text import Tokenizer

CLIP_VOCABULARY = 49408
Tokenize = str | Callable[[Sequence[str]], Tensor]


def clip_tokens(texts: Sequence[str], length: int = 16) -> Tensor:
    """Token ids int64 [N, length] of CLIP's own vocabulary; longer texts are cut, shorter ones padded with 0.

    Raises InputError for a length below 3, BackendError where open_clip is not installed.
    """
    whole_number("length", length, least=3)
    return _tokenizer(length)(list(texts)) if texts else torch.zeros((0, length), dtype=torch.int64)


def encode_texts(texts: Sequence[str], how: Tokenize, length: int, train: Sequence[int] | Tensor) -> tuple[Tensor, int]:
    """Token ids int64 [N, S] of N texts, and the number of ids.

    how     "clip": CLIP's vocabulary; "words": the words of the rows in ``train`` [n], no others are known; or any
            function of texts that returns ids [N, S]
    length  S, with "clip" and "words"; longer texts are cut
    Raises UnknownNameError for another name, InputError for a function that returns something else.
    """
    if callable(how):
        ids = torch.as_tensor(how(list(texts)))
        if ids.ndim != 2 or len(ids) != len(texts) or ids.is_floating_point() or (ids.numel() and int(ids.min()) < 0):
            raise InputError(
                f"tokenize: expected ids from 0 of shape [{len(texts)}, S], got {ids.dtype} {tuple(ids.shape)}."
            )
        return ids.to(torch.int64), int(getattr(how, "vocab_size", int(ids.max()) + 1 if ids.numel() else 1))
    if how == "clip":
        return clip_tokens(texts, length), CLIP_VOCABULARY
    if how != "words":
        raise unknown_name("way to tokenize", how, ("clip", "words"))
    tokenizer = Tokenizer.of([texts[int(row)] for row in train], length)
    return tokenizer.encode(texts, cut=True), len(tokenizer)


@lru_cache(maxsize=4)
def _tokenizer(length: int) -> Any:
    return _tokenizer_file().SimpleTokenizer(context_length=length)


@lru_cache(maxsize=1)
def _tokenizer_file() -> Any:
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise BackendError('CLIP\'s vocabulary comes with open_clip; install it with "pip install open_clip_torch".')
    # This one file: the package around it loads every model and torchvision, which a tokenizer does not need.
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", Path(found.origin).parent / "tokenizer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, FileNotFoundError) as error:
        raise BackendError(f"open_clip's tokenizer cannot be loaded ({error}); install it anew.") from error
    return module
