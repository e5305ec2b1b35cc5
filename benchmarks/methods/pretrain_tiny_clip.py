"""A small CLIP trained from scratch on real image-text pairs, with classes and domains left out on purpose.

    export PYFAST_MMCL_DATA=folder
    python -m benchmarks.methods.pretrain_tiny_clip                  # minutes on two cores
    pyfast-mmcl train --stream small_mtil --method zscl --clip tiny

Pretrained CLIP weights cannot be downloaded everywhere. This model has the same structure and the same abilities on a
small scale: it has seen photographs of some classes and not of others (whose words may still name an emoji), some
styles and not others, so that zero-shot ability exists, can be lost and can be measured. The weights are written as
safetensors beside open_clip's configuration and about.json, which says what it has learnt from, what was left out, and
how well it does on both. Methods that start from CLIP take it as ``--clip tiny``, or real weights as ``--clip ViT-B-16
--weights path``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.methods.clip_training import Recipe, Trainer
from benchmarks.methods.tiny_clip_data import LEFT_OUT, USED, Source, questions, sources
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import CONFIG, WEIGHTS, tiny_clip_folder
from pyfast_mmcl.models.tiny_clip import clip_tokenizer, tiny_clip, tiny_clip_config
from pyfast_mmcl.models.zero_shot import PHOTO
from pyfast_mmcl.ops.contrastive import info_nce
from pyfast_mmcl.train.files import replace_file, replace_text

ABOUT = "about.json"
# 3.6 million parameters, of which 3.2 million are the embedding of CLIP's vocabulary.
SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "width": 96,
    "layers": 3,
    "text_width": 64,
    "text_layers": 2,
    "embed_dim": 96,
    "context_length": 16,
}
SHARES = {"cifar10": 0.25, "pacs": 0.3, "mnist": 0.1, "digits": 0.05, "emoji": 0.3}
GREY = 0.2  # share of training pictures without colour: paintings and sketches are not told by it
SHIFT = 3  # pixels that training pictures move at most; what comes in repeats the border


def main(argv: list[str] | None = None) -> int:
    """Train, measure and write the model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.pretrain_tiny_clip", description=__doc__[:99])
    parser.add_argument("--data", type=Path, default=os.environ.get("PYFAST_MMCL_DATA"), help="folder of the real sets")
    parser.add_argument("--out", type=Path, default=tiny_clip_folder(), help="folder for weights, outside the project")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.data is None:
        parser.error("name the data folder: --data or PYFAST_MMCL_DATA")
    recipe = Recipe(steps=options.steps, batch=options.batch, warm_up=max(1, options.steps // 20))
    folder, start = Path(options.data), time.perf_counter()
    clip = pretrain(sources(folder), recipe, options.seed)
    about = {
        "what": "a CLIP of 3.6 million parameters trained from scratch, for experiments",
        "learnt from": USED,
        "left out": LEFT_OUT,
        "zero-shot accuracy on test rows": measure(clip, folder),
        "training": {**vars(recipe), "seed": options.seed, "seconds": round(time.perf_counter() - start)},
        "sizes": SIZES,
    }
    write(clip, about, options.out)
    print(json.dumps(about["zero-shot accuracy on test rows"], indent=1), f"\nwritten to {options.out}")
    return 0


def pretrain(sets: dict[str, Source], recipe: Recipe, seed: int) -> torch.nn.Module:
    """The trained model: InfoNCE in both directions, pairs of one caption being positives of each other."""
    clip = tiny_clip(**SIZES, seed=seed)
    prepare, tokenizer = ClipModel(clip).prepare, clip_tokenizer(SIZES["context_length"])
    trainer = Trainer(clip, info_nce, recipe)
    for step, (images, captions) in enumerate(batches(sets, recipe, seed)):
        labels = torch.from_numpy(np.unique(captions, return_inverse=True)[1])
        trainer.loss = partial(info_nce, labels=labels)
        value = trainer.step(prepare(images), tokenizer(captions))
        if step % 100 == 0 or step == recipe.steps - 1:
            print(f"step {step + 1} of {recipe.steps}: loss {value:.3f}", flush=True)
    return clip.eval()


def batches(sets: dict[str, Source], recipe: Recipe, seed: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Pictures uint8 [B, 3, H, W] and their captions, of every set its share, drawn by (seed, step)."""
    counts = [round(SHARES[name] * recipe.batch) for name in sets]
    for step in range(recipe.steps):
        random = np.random.default_rng([seed, step])
        images, captions = [], []
        for source, n in zip(sets.values(), counts, strict=True):
            rows = random.choice(len(source.names), min(n, len(source.names)), replace=False)
            images.append(moved(source.images[rows], source.mirrored, random))
            captions += [caption(source, row, random) for row in rows]
        yield torch.cat(images), captions


def caption(source: Source, row: int, random: np.random.Generator) -> str:
    """One of the names of a picture in one of the sentences of its set."""
    name = source.names[row][random.integers(len(source.names[row]))]
    return source.templates[random.integers(len(source.templates))].format(name)


def moved(images: Tensor, mirrored: bool, random: np.random.Generator) -> Tensor:
    """Every picture moved by up to SHIFT pixels each way, some without colour, some mirrored if that shows the same."""
    B, _, H, W = images.shape
    padded = torch.nn.functional.pad(images.float(), (SHIFT,) * 4, mode="replicate").to(torch.uint8)
    corners = random.integers(0, 2 * SHIFT + 1, (B, 2))
    cut = torch.stack([x[:, i : i + H, j : j + W] for x, (i, j) in zip(padded, corners.tolist(), strict=True)])
    flip, fade = (torch.from_numpy(random.random(B) < p).view(-1, 1, 1, 1) for p in (0.5 * mirrored, GREY))
    cut = torch.where(fade, cut.float().mean(1, keepdim=True).to(torch.uint8), cut)
    return torch.where(flip, cut.flip(3), cut)


@torch.no_grad()
def measure(clip: torch.nn.Module, folder: Path) -> dict[str, Any]:
    """Accuracy and chance of every question, asked with the names of all its classes."""
    found = {}
    for name, asked in questions(folder).items():
        model = ClipModel.with_classes(clip, asked.names, templates=PHOTO).eval()
        v = torch.cat([model.image_features(part) for part in asked.images.split(512)])
        right = (v @ model.class_features().mT).argmax(1) == asked.target
        found[name] = {"accuracy": round(float(right.float().mean()), 4), "chance": round(1 / len(asked.names), 4)}
    return found


def write(clip: torch.nn.Module, about: dict[str, Any], folder: Path) -> None:
    """Weights, configuration and about.json, each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: x.contiguous() for name, x in clip.state_dict().items()}
    replace_file(folder / WEIGHTS, lambda new: save_file(weights, new))
    replace_text(folder / CONFIG, json.dumps({"model_cfg": tiny_clip_config(**SIZES)}, indent=1))
    replace_text(folder / ABOUT, json.dumps(about, indent=1))


if __name__ == "__main__":
    raise SystemExit(main())
