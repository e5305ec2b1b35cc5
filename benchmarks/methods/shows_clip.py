"""Streams of the shows that start from a pretrained CLIP."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import nn

from benchmarks.methods.show import Show
from pyfast_mmcl.data import Stream
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import load_clip
from pyfast_mmcl.train.run import stream_spec

STREAMS: tuple[Show, ...] = ()


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
