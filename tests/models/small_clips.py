"""Small open_clip models of either class, and rows for them."""

import copy
from functools import cache

import torch

from pyfast_mmcl.models.open_clip_import import load_open_clip
from pyfast_mmcl.models.tiny_clip import clip_tokenizer

KINDS = ("CLIP", "CustomTextCLIP")
TEXTS = ("a cat", "a photo of a very long dog", "seven")


def small_clip(kind="CLIP", *, layers=3, **vision):
    """A copy of a model whose weights are the same for the same arguments; 16-pixel images, texts of 16 tokens."""
    return copy.deepcopy(_built(kind, layers, tuple(vision.items())))


@cache
def _built(kind, layers, vision):
    parts = load_open_clip().model
    tower = {"layers": layers, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 16, **dict(vision)}
    text = parts.CLIPTextCfg(context_length=16, width=32, heads=1, layers=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return getattr(parts, kind)(24, parts.CLIPVisionCfg(**tower), text).eval()


def images(n=5):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@cache
def tokens(texts=TEXTS):
    return clip_tokenizer(16)(list(texts))


def text_home(clip):
    """What holds the text tower: the model itself, or its ``text``."""
    return getattr(clip, "text", clip)


def shake(module, size=0.3):
    """Move every parameter at random, so that nothing is 0 by its first weights."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype))


@torch.no_grad()
def both(clip):
    return clip.encode_image(images().to(next(clip.parameters()).dtype)), clip.encode_text(tokens())
