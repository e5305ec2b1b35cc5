"""What lines that start from a pretrained CLIP read: embeddings of the pictures, and of WordNet's nouns."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyfast_mmcl.data.folder import data_file
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import load_clip, tiny_clip_folder

if TYPE_CHECKING:
    from pyfast_mmcl.clustering.text_bank import TextBank

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
def nouns() -> TextBank:
    """The first noun of every WordNet synset where it is one word, embedded once and kept beside the model."""
    from pyfast_mmcl.clustering.text_bank import embed_nouns
    from pyfast_mmcl.data.wordnet import noun_names, read_synsets

    names = noun_names(read_synsets(data_file("wordnet_nouns.tsv.gz")), first=True, single_word=True)
    return embed_nouns(clip(), names, cache_dir=tiny_clip_folder().parent)
