"""What lines that start from a pretrained CLIP read: embeddings of the pictures, and of WordNet's nouns."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import torch

from pyfast_mmcl.clustering.text_bank import TextBank, embed_nouns
from pyfast_mmcl.data.folder import data_file, read_arrays
from pyfast_mmcl.data.wordnet import noun_names, read_synsets
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import load_clip, tiny_clip_folder

_ROWS = 512  # encoded at once


@cache
def clip() -> ClipModel:
    """The small CLIP of `pretrain_tiny_clip`. Raises InputError where it has not been trained."""
    return ClipModel(load_clip("tiny")).eval()


def embeddings(images: np.ndarray) -> np.ndarray:
    """Unit embeddings [N, d] of pictures, bytes [N, C, H, W]."""
    with torch.no_grad():
        parts = torch.from_numpy(images).split(_ROWS)
        return torch.cat([clip().image_features(part) for part in parts]).numpy()


@cache
def nouns(*, known: bool = False) -> TextBank:
    """The first noun of every WordNet synset where it is one word, embedded once and kept beside the model.

    known: only nouns among the names and keywords of emoji, which the CLIP has learnt from.
    """
    synsets = read_synsets(data_file("wordnet_nouns.tsv.gz"))
    names = noun_names(synsets, first=True, single_word=True)
    if known:
        words = emoji_words()
        names = [name for name in names if name.lower() in words]
    return embed_nouns(clip(), names, cache_dir=tiny_clip_folder().parent)


def emoji_words() -> set[str]:
    """Words of the names and keywords of emoji, in small letters."""
    found = read_arrays("emoji.npz")
    return set(re.findall(r"[a-z]+", " ".join([*map(str, found["text"]), *map(str, found["tags"])]).lower()))
