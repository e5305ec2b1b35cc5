"""A small CLIP of open_clip's own classes, made without a download: for experiments on a CPU and for tests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.models.open_clip_import import load_open_clip

CLIP_VOCABULARY = 49408
# Attention heads of this width, half of CLIP's 64, so that towers of 128 still have several.
_HEAD_WIDTH = 32


def tiny_clip(
    *,
    image_size: int = 48,
    patch_size: int = 12,
    width: int = 128,
    layers: int = 4,
    text_width: int = 128,
    text_layers: int = 2,
    embed_dim: int = 128,
    context_length: int = 16,
    seed: int = 0,
) -> nn.Module:
    """An open_clip ``CLIP`` with fresh weights: a vision transformer and a text transformer, 7.6 million parameters.

    ``images [B, 3, H, W], tokens [B, S] → encode_image, encode_text [B, embed_dim]; logit_scale = log(1 / 0.07)``

    6.3 million of the parameters are the token embedding, 49,408 tokens of CLIP's own vocabulary, so that words which
    training never shows still have tokens. What works on this model works on a large open_clip model of the same
    classes.

    Args:
        image_size, patch_size: pixels; patches must tile the image. 48 and 12 give 16 patches.
        width, layers: of the image tower; text_width, text_layers: of the text tower. Widths are multiples of 32.
        embed_dim: D of both embeddings.
        context_length: tokens per text, with the marks at its start and end.
        seed: of the weights; the global random state is left as it was.

    Raises:
        InputError: sizes that do not fit each other; BackendError: open_clip is not installed.

    Reference: Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, ICML 2021.
    """
    image = {"image_size": image_size, "patch_size": patch_size, "width": width, "layers": layers}
    text = {"text_width": text_width, "text_layers": text_layers, "context_length": context_length}
    config = tiny_clip_config(**image, **text, embed_dim=embed_dim)
    parts = load_open_clip().model
    with torch.random.fork_rng(devices=[]):  # open_clip draws its weights from the global generator
        torch.manual_seed(whole_number("seed", seed, least=None))
        return parts.CLIP(**config)


def tiny_clip_config(
    *,
    image_size: int,
    patch_size: int,
    width: int,
    layers: int,
    text_width: int,
    text_layers: int,
    embed_dim: int,
    context_length: int,
) -> dict[str, Any]:
    """The configuration of ``tiny_clip`` as open_clip writes it: arguments of its class ``CLIP``, made of plain values.

    Raises InputError as ``tiny_clip``.
    """
    sizes = {"image_size": image_size, "patch_size": patch_size, "width": width, "layers": layers}
    sizes |= {"text_width": text_width, "text_layers": text_layers, "embed_dim": embed_dim}
    for name, value in sizes.items():
        whole_number(name, value)
    whole_number("context_length", context_length, least=3)
    if image_size % patch_size:
        raise InputError(f"patch_size: expected a divisor of image_size {image_size}, got {patch_size}.")
    for name in ("width", "text_width"):
        if sizes[name] % _HEAD_WIDTH:
            raise InputError(f"{name}: expected a multiple of {_HEAD_WIDTH}, got {sizes[name]}.")
    vision = {"image_size": image_size, "patch_size": patch_size, "width": width, "layers": layers}
    text = {"context_length": context_length, "vocab_size": CLIP_VOCABULARY, "width": text_width, "layers": text_layers}
    return {
        "embed_dim": embed_dim,
        "vision_cfg": {**vision, "head_width": _HEAD_WIDTH},
        "text_cfg": {**text, "heads": text_width // _HEAD_WIDTH},
    }


@lru_cache(maxsize=8)
def clip_tokenizer(context_length: int = 16) -> Any:
    """CLIP's tokenizer: ``texts → ids int64 [N, context_length]``, longer texts cut.

    Its vocabulary comes with open_clip: nothing is downloaded.

    Raises InputError for a context_length below 3; BackendError where open_clip is not installed.
    """
    whole_number("context_length", context_length, least=3)
    return load_open_clip().tokenizer.SimpleTokenizer(context_length=context_length)
