"""Streams of the shows that start from a pretrained CLIP."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import nn

from benchmarks.methods.show import BOUNDS, Show
from benchmarks.methods.shows_streams import dealt
from pyfast_mmcl.data import Stream
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import load_clip
from pyfast_mmcl.train.run import stream_spec

TUNED = ("moe_adapters", "s_liprompts", "cpe_clip")
_MTIL = (
    ("zero_shot_transfer", "Transfer", "%"),
    ("overall_average", "Average", "%"),
    ("last_accuracy", "Last", "%"),
    ("forgetting", "forgetting", "%"),
)
_RECALL = (
    ("last_accuracy", "R@1 at the end", "%"),
    ("average_incremental_accuracy", "average incremental R@1", "%"),
    ("zero_shot_transfer", "R@1 of styles to come", "%"),
    ("forgetting", "forgetting", "%"),
)
_START = "Everything starts from one CLIP, trained from scratch by `pretrain_tiny_clip` and kept the same for all seeds"

STREAMS = (
    Show(
        folder="shows-mtil",
        title="MTIL, five image sets (TIL)",
        text=(
            f"{_START}: CIFAR-10, MNIST, PACS, groups of emoji and Omniglot alphabets follow each other, 1,200 "
            "pictures of each, and a row says which set it is from. Transfer is the mean accuracy on sets before they "
            "are trained on, Average the mean over all stages and sets, Last the mean after the last (Zheng et al. "
            "2023)."
        ),
        stream=dealt("small_mtil", "til", rows=1200),
        methods=(*BOUNDS, "zero-shot", "er", "lwf", "wise_ft", "zscl", *TUNED),
        epochs=3,
        batch_size=64,
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
        methods=(*BOUNDS, "zero-shot", "frozen, linear probe", "er", "lwf", "wise_ft", "zscl", *TUNED),
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
            "task. A fifth of the emoji is tested on, which nothing here or before has been trained on; the figure is "
            "R@1, the mean of both directions, among the test emoji of a style."
        ),
        stream=dealt("emoji", "dil", size=32),
        methods=(*BOUNDS, "zero-shot", "er", "feature_kd", "relation_kd", "wise_ft", "zscl", "mod_x", "dkr", "kdr"),
        epochs=5,
        batch_size=64,
        capacity=200,
        lr=3e-4,
        columns=_RECALL,
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

    return replace(
        show, model=model, config={**show.config, "clip": name}, packages=(*show.packages, "open_clip_torch")
    )


def clip_model(clip: nn.Module, stream: Stream) -> ClipModel:
    """A zero-shot classifier of the classes of the stream, or a pair of towers where the stream is one of pairs."""
    return ClipModel(clip) if stream.objective == "pairs" else ClipModel.for_stream(stream_spec(stream), clip)
