"""Streams, models and lines of the replay experiments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from pyfast_mmcl.data import Batch, Stream, har_stream, omniglot_stream, spoken_digits_stream
from pyfast_mmcl.data.har import SENSORS
from pyfast_mmcl.models import DualEncoder, ModalityHeads, MultimodalClassifier, TokenClassifier
from pyfast_mmcl.models.encoders import ImageEncoder, VectorEncoder
from pyfast_mmcl.models.tokens import ImageTokens, tokens_for
from pyfast_mmcl.ops.sampling import fold_seed
from pyfast_mmcl.train import Learner, Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay

_WIDTH = 64


@dataclass(frozen=True)
class Setting:
    """A stream, its encoders, the numbers a row has of each modality, how it is trained on, and three budgets."""

    stream: Callable[..., Stream]
    encoders: Callable[[], dict[str, nn.Module]]
    numbers: dict[str, int]
    epochs: int
    lr: float
    budgets: tuple[int, int, int]
    batch_size: int = 32

    def all_but(self, modality: str | None) -> dict[str, float]:
        """The shares of missing rows that leave only ``modality``."""
        return {} if modality is None else {name: 1.0 for name in self.numbers if name != modality}

    def model(self, kind: str, stream: Stream, seed: int) -> nn.Module:
        """The model of one kind (train.registry.MODELS) for the stream; its weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold_seed(seed, 1))
            if kind == "tokens":
                tokenizers = {name: _tokens(name, stream) for name in self.numbers}
                return TokenClassifier(tokenizers, stream.n_classes, n_types=stream.n_tasks, width=_WIDTH)
            build = {"classifier": MultimodalClassifier, "modality heads": ModalityHeads, "dual encoder": DualEncoder}
            return build[kind](self.encoders(), stream.n_classes, embedding=_WIDTH, features=_WIDTH)


def _tokens(name: str, stream: Stream) -> nn.Module:
    """A tokenizer for a modality of the stream; images at half their resolution, as for the classifier."""
    column = stream.gather(stream.rows(0)[:1])[0][name]
    return HalvedImageTokens(column.shape[1], _WIDTH) if column.ndim == 4 else tokens_for(name, column, _WIDTH)


class HalvedImageTokens(ImageTokens):
    """Tokens of images at half their resolution."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(avg_pool2d(x, 2))


def _sensors() -> dict[str, nn.Module]:
    return {name: VectorEncoder(3 * 64, _WIDTH) for name in SENSORS}


def _seen_and_heard() -> dict[str, nn.Module]:
    return {"image": VectorEncoder(28 * 28, _WIDTH), "audio": VectorEncoder(40 * 64, _WIDTH)}


def _drawings() -> dict[str, nn.Module]:
    # Half the resolution: four times as fast and as accurate.
    image = nn.Sequential(nn.AvgPool2d(2), ImageEncoder(1, _WIDTH))
    return {"image": image, "stroke": VectorEncoder(4 * 64, _WIDTH)}


SETTINGS = {
    "HAR": Setting(har_stream, _sensors, dict.fromkeys(SENSORS, 3 * 64), 5, 1e-3, (20, 60, 200)),
    "image+audio digits": Setting(
        spoken_digits_stream, _seen_and_heard, {"image": 28 * 28, "audio": 40 * 64}, 5, 1e-3, (50, 150, 500)
    ),
    "Omniglot image+stroke": Setting(
        omniglot_stream, _drawings, {"image": 35 * 35, "stroke": 4 * 64}, 20, 3e-3, (136, 272, 544)
    ),
}


class ReplaySome(Replay):
    """Replay whose memory keeps only some modalities of every row; the others are missing when a row comes back.

    shown_so: show every second fresh row without the others too, so that what is missing does not tell old from new.
    """

    def __init__(self, capacity: int, modalities: tuple[str, ...], *, shown_so: bool = False) -> None:
        super().__init__(capacity)
        self.modalities, self.shown_so = modalities, shown_so

    @property
    def name(self) -> str:
        return "replay"

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        if self.shown_so:
            hidden = torch.arange(len(batch), device=batch.device) % 2 == 0
            batch = replace(batch, **_without(batch, self.modalities, hidden))
        return super().extend(learner, batch)

    def after_step(self, learner: Learner, batch: Batch, out: Any) -> None:
        fresh = batch.select(slice(0, batch.fresh))
        inputs = {m: x for m, x in fresh.inputs.items() if m in self.modalities}
        present = {m: fresh.present[m] for m in inputs}
        self.memory_.add(Batch(inputs, fresh.target, fresh.task, present, fresh.index))


def _without(batch: Batch, kept: tuple[str, ...], rows: Tensor) -> dict[str, dict[str, Tensor]]:
    """Inputs and presence of a batch whose ``rows`` (bool [B]) have only the modalities ``kept``."""
    inputs, present = dict(batch.inputs), dict(batch.present)
    for name in [m for m in inputs if m not in kept]:
        present[name] = present[name] & ~rows
        inputs[name] = inputs[name] * present[name].reshape(-1, *[1] * (inputs[name].ndim - 1))
    return {"inputs": inputs, "present": present}


def replay_of(modalities: tuple[str, ...], capacity: int, *, shown_so: bool = False) -> list[Part]:
    """er whose memory keeps only these modalities."""
    return [ReplaySome(capacity, modalities, shown_so=shown_so), CrossEntropy()]
