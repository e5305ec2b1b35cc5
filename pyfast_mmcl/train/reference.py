"""Reference data beside the stream: pictures and texts that a pretrained model is asked about, never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.reference_texts import reference_texts
from pyfast_mmcl.models.zero_shot import text_tokens

Images = Tensor | str | Path
Texts = Tensor | str | Path | Sequence[str]


def read_images(images: Images) -> Tensor:
    """Pictures [N, c, H, W], bytes or floats in [0, 1]: the tensor itself, or that of a .npy file.

    A file may hold [N, H, W, 3] as well. Raises InputError for other files and shapes.
    """
    if isinstance(images, str | Path):
        try:
            images = torch.from_numpy(np.load(images, allow_pickle=False))
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise InputError(f"images: {images} is no .npy file of numbers that can be read ({error}).") from error
        if images.ndim == 4 and images.shape[3] == 3 and images.shape[1] not in (1, 3):
            images = images.permute(0, 3, 1, 2)
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        got = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images: expected pictures [N, 3, H, W] or a .npy file of them, got {got}.")
    return images


def read_texts(texts: Texts | None, context_length: int) -> Tensor:
    """Token ids [M, S]: of sentences, of the lines of a .txt file, or the ids themselves; None: ``reference_texts``.

    Sentences are read by CLIP's own tokenizer; give ids for a model with another. Raises InputError for no text.
    """
    if isinstance(texts, str | Path):
        try:
            texts = Path(texts).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"texts: {texts} cannot be read ({error}); give a text file, a sentence per line."
            ) from error
    if isinstance(texts, Tensor):
        if texts.ndim != 2 or not len(texts) or texts.is_floating_point():
            raise InputError(f"texts: expected token ids [M, S], got {texts.dtype} of shape {list(texts.shape)}.")
        return texts
    sentences = reference_texts() if texts is None else [text for text in texts if text.strip()]
    if not sentences:
        raise InputError("texts: expected at least one sentence, got none.")
    return text_tokens(sentences, context_length=context_length)
