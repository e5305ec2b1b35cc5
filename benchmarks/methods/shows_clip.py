"""Streams of the shows that start from a pretrained CLIP."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.methods.show import BOUNDS, Show
from benchmarks.methods.shows_streams import dealt
from pyfast_mmcl.data import Stream
from pyfast_mmcl.metrics.retrieval import recall_at_k
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import load_clip, tiny_clip_folder
from pyfast_mmcl.train.evaluation import Answers
from pyfast_mmcl.train.pairs import pair_labels, two_sides
from pyfast_mmcl.train.run import stream_spec


def recall_at_5(answers: Answers) -> float:
    """R@5 of pairs, the mean of both directions."""
    pairs = [(batch.target, *two_sides(out)) for batch, out in answers]
    target, v, t = (torch.cat(column) for column in zip(*pairs, strict=True))
    labels = pair_labels(target)
    return (recall_at_k(v, t, labels, k=5)[5] + recall_at_k(t, v, labels, k=5)[5]) / 2


_MTIL = (
    ("zero_shot_transfer", "Transfer", "%"),
    ("overall_average", "Average", "%"),
    ("last_accuracy", "Last", "%"),
    ("forgetting", "forgetting", "%"),
)
_RECALL = (
    ("last_accuracy", "R@5 at the end", "%"),
    ("average_incremental_accuracy", "average incremental R@5", "%"),
    ("zero_shot_transfer", "R@5 of styles to come", "%"),
    ("forgetting", "forgetting", "%"),
)
_START = "Everything starts from one CLIP, trained from scratch by `pretrain_tiny_clip` and kept the same for all seeds"

STREAMS = (
    Show(
        folder="shows-mtil",
        title="MTIL, five image sets (TIL)",
        text=(
            f"{_START}: Omniglot alphabets, CIFAR-10, MNIST, PACS and groups of emoji follow each other, 1,000 "
            "pictures of each, and a row says which set it is from. The model knows nothing of the first and something "
            "of the others, where some classes, styles or groups were left out on purpose; these come later, so that "
            "there is something to lose. Transfer is the mean accuracy on sets before they are trained on, Average the "
            "mean over all stages and sets, Last the mean after the last (Zheng et al. 2023)."
        ),
        stream=dealt("small_mtil", "til", rows=1000, sets=("omniglot", "cifar10", "digits", "pacs", "emoji")),
        methods=(*BOUNDS, "zero-shot", "er", "lwf, λ 1", "wise_ft", "zscl", "moe_adapters", "cpe_clip"),
        epochs=4,
        capacity=200,
        lr=3e-4,
        columns=_MTIL,
        clip=True,
    ),
    Show(
        folder="shows-pacs-clip",
        title="PACS, styles, from CLIP (DIL)",
        text=(
            f"{_START}, which has seen photos and cartoons of the seven classes, and no painting or sketch: one style "
            "per task, no task id."
        ),
        stream=dealt("pacs", "dil"),
        methods=(*BOUNDS, "zero-shot", "er", "zscl", "s_liprompts"),
        epochs=1,
        capacity=200,
        lr=3e-4,
        clip=True,
    ),
    Show(
        folder="shows-emoji-dil",
        title="emoji, styles (DIL retrieval)",
        text=(
            f"{_START}, which has seen two of the styles: pictures and names of emoji find each other, one style per "
            "task. A fifth of the emoji is tested on, which nothing here or before has been trained on; figures are "
            "R@5, the mean of both directions, among the test emoji of a style, because few are found at once."
        ),
        stream=dealt("emoji", "dil", size=32),
        methods=(*BOUNDS, "zero-shot", "er", "wise_ft", "zscl", "mod_x", "dkr"),
        epochs=3,
        batch_size=64,
        capacity=200,
        lr=3e-4,
        columns=_RECALL,
        measure=recall_at_5,
        clip=True,
    ),
)


def started(show: Show, name: str, weights: Path | None) -> Show:
    """``show`` with the CLIP called ``name`` to start from; what starts from elsewhere is left as it is."""
    if not show.clip:
        return show
    loaded: list[nn.Module] = []

    def model(stream: Stream) -> nn.Module:
        loaded[:] = loaded or [load_clip(name, weights)]
        return clip_model(deepcopy(loaded[0]), stream)

    config = {**show.config, "clip": name, "weights": fingerprint(tiny_clip_folder() if weights is None else weights)}
    return replace(show, model=model, config=config, packages=(*show.packages, "open_clip_torch"))


def fingerprint(weights: Path) -> str:
    """First digits of the SHA-256 of the weights, so that results of two models never share a table; "" for none."""
    files = [weights] if weights.is_file() else sorted(weights.glob("*.safetensors"))
    return hashlib.sha256(files[0].read_bytes()).hexdigest()[:10] if files else ""


def clip_model(clip: nn.Module, stream: Stream) -> ClipModel:
    """A zero-shot classifier of the classes of the stream, or a pair of towers where the stream is one of pairs."""
    return ClipModel(clip) if stream.objective == "pairs" else ClipModel.for_stream(stream_spec(stream), clip)
