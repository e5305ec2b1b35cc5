"""Classes as texts: a zero-shot head is the class names, put into sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.tiny_clip import clip_tokenizer

# One sentence is what the continual methods for CLIP use; several, averaged, answer a little better and cost as much
# more text.
PHOTO = ("a photo of a {}.",)
SEVERAL = (
    "a photo of a {}.",
    "a picture of the {}.",
    "a drawing of a {}.",
    "a small picture of a {}.",
    "a cropped photo of the {}.",
    "a bright photo of a {}.",
    "an image that shows the {}.",
)


def class_tokens(
    class_names: Sequence[str],
    templates: Sequence[str] = PHOTO,
    *,
    context_length: int = 16,
    tokenizer: Callable[[list[str]], Tensor] | None = None,
) -> Tensor:
    """Token ids [C, n_templates, S] of every class name in every sentence; {} in a template stands for the name.

    tokenizer  ``texts → ids [N, S]``; by default CLIP's own, which needs no download, with S = context_length

    Raises InputError for no name, no template, or a template without {}.
    """
    names, templates = list(class_names), list(templates)
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(f"class_names: expected a name for every class, got {names}.")
    if not templates or not all(isinstance(text, str) and "{}" in text for text in templates):
        raise InputError(f"templates: expected sentences with {{}} in the place of the class name, got {templates}.")
    texts = [template.replace("{}", name.replace("_", " ")) for name in names for template in templates]
    ids = text_tokens(texts, context_length=context_length, tokenizer=tokenizer)
    return ids.unflatten(0, (len(names), len(templates)))


def text_tokens(
    texts: Sequence[str], *, context_length: int = 16, tokenizer: Callable[[list[str]], Tensor] | None = None
) -> Tensor:
    """Token ids int64 [N, S] of texts; arguments as ``class_tokens``."""
    return torch.as_tensor((tokenizer or clip_tokenizer(context_length))(list(texts)))
