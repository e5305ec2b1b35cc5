"""CLIP's token ids, from the vocabulary that comes with open_clip."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import BackendError, whole_number

CLIP_VOCABULARY = 49408


def clip_tokens(texts: Sequence[str], length: int = 16) -> Tensor:
    """Token ids int64 [N, length] of CLIP's own vocabulary; longer texts are cut, shorter ones padded with 0.

    Raises InputError for a length below 3, BackendError where open_clip is not installed.
    """
    whole_number("length", length, least=3)
    return _tokenizer(length)(list(texts)) if texts else torch.zeros((0, length), dtype=torch.int64)


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
