"""The model, processes and learner settings of `pyfast-mmcl train`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from .data import Stream

# Options that are arguments of the learner under the same name, and what they mean when they are not named.
SETTINGS: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": None,
    "schedule": "constant",
    "warmup": 0,
    "patience": None,
    "precision": None,
    "accumulate": 1,
    "clip_norm": None,
    "measure": None,
    "by_modality": False,
    "device": None,
}


def parse_epochs(text: str | None) -> int | list[int] | None:
    """`"10"` as 10, `"5,3,3"` as a number per task."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--epochs expects a whole number, or one per task with commas, got {text!r}.") from None
    return numbers[0] if len(numbers) == 1 else numbers


def parse_warmup(number: float | None) -> float | None:
    """A whole number of steps as such: the command line reads `5` as 5.0."""
    return int(number) if number is not None and number.is_integer() else number


def launched(device: str | None) -> Accelerator | None:
    """The processes that `accelerate launch` or torchrun started this one with, or None where it was started alone.

    They take the GPUs in turn, or the CPU where there are none or ``device`` says so.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    import torch
    from accelerate import Accelerator

    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available())


def build_model(options: Mapping[str, Any], stream: Stream) -> nn.Module | None:
    """The CLIP that --clip and --weights name, as a model of the stream's classes or pairs; None: the default model."""
    name, weights = options["clip"], options["weights"]
    if name is None and weights is None:
        return None
    from .models.clip import ClipModel
    from .models.clip_load import load_clip
    from .train.run import stream_spec

    clip = load_clip(name, weights, seed=options["seed"])
    return ClipModel.for_stream(stream_spec(stream), clip)


def check(options: Mapping[str, Any], stream: Stream) -> None:
    """Raise InputError for settings that the learner would refuse, before any file is written."""
    from torch import nn

    from .train import Learner
    from .train.settings import check_stream

    learner = Learner(
        nn.Identity(),
        options["method"],
        hyper=options["set"],
        seed=options["seed"],
        trackers=options["trackers"],
        **{name: options[name] for name in SETTINGS},
    )
    check_stream(learner, stream)
