"""Digits seen and heard: MNIST images paired with spoken digits of the same class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.data.folder import every_fifth, read_arrays
from pyfast_mmcl.data.imbalance import rotating_sets
from pyfast_mmcl.data.mnist import read_mnist
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.text import DIGIT_WORDS
from pyfast_mmcl.ops.sampling import fold_seed, reservoir_keys

# Recordings 0 to 4 of every speaker and digit are the test of the data set; validation takes the next five.
_FOLD = 5
# A test recording is heard with this many images, so that a task is tested on 200 rows and not on 40.
_IMAGES_PER_TEST_RECORDING = 5
# Places in the seed's tree: pairs that are trained on and pairs that are tested on.
_TRAIN, _TEST = 0, 1


def spoken_digits_stream(
    scenario: str | Scenario = "cil",
    n_tasks: int | None = None,
    *,
    held_out: str = "test",
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """1,800 pairs to train on and 1,000 to test on: an image [1, 28, 28] in [0, 1] and a log-mel recording [40, 64].

    scenario   "cil" or "til": the ten digits dealt to ``n_tasks`` (default 5) tasks in ascending order; "dil": one of
               the four speakers per task, ten digits in each; "mdtil": as "til", the tasks have the images, the
               recordings, both, and again
    held_out   "test": recordings 0 to 4 of every speaker and digit, and every fifth image. "validation": these are
               left out and the next ones tested on instead, to choose hyper-parameters (1,600 pairs are trained on).
    seed       also decides which image a recording is paired with
    dealing    further arguments of ``Stream.from_dataset``: missing, task_order, long_tail, …
    folder     where the files lie; by default the folder named by PYFAST_MMCL_DATA

    Every recording that is trained on has an image of its own; one that is tested on comes with five. Recordings have
    mean 0 and standard deviation 1 over those trained on. No image or recording is on both sides.

    Sources: Z. Jackson et al., Free Spoken Digit Dataset, 2018; LeCun, Cortes and Burges, MNIST, 1998.
    """
    scenario = get_scenario(scenario)
    if scenario.labels == "generated":
        raise InputError(f"spoken_digits_stream: expected scenario cil, til, dil or mdtil, got {scenario.name!r}.")
    data = read_arrays("spoken_digits.npz", folder)
    audio = torch.from_numpy(data["x"]).to(torch.float32)
    spoken, speaker, take = (torch.from_numpy(data[name].astype(np.int64)) for name in ("y", "speaker", "index"))
    fold = (take // _FOLD).clamp(max=2)
    tried, trained = (fold == 0, fold >= 1) if held_out == "test" else (fold == 1, fold >= 2)
    audio = (audio - audio[trained].mean()) / audio[trained].std()
    images, digit = read_mnist(folder)
    used, image_tested = every_fifth(len(digit), held_out)
    train = trained.nonzero().flatten()
    test = tried.nonzero().flatten().repeat_interleave(_IMAGES_PER_TEST_RECORDING)
    recording = torch.cat([train, test])
    image = torch.cat(
        [
            _partners(spoken[train], digit, used & ~image_tested, fold_seed(seed, _TRAIN)),
            _partners(spoken[test], digit, used & image_tested, fold_seed(seed, _TEST)),
        ]
    )
    pairs = Records(
        {"image": images[image].unsqueeze(1).to(torch.float32) / 255, "audio": audio[recording]}, spoken[recording]
    )
    by_speaker = scenario.labels == "shared"
    n_tasks = 5 if n_tasks is None and not by_speaker else n_tasks
    if scenario.modalities == "per task":
        dealing.setdefault("task_modalities", rotating_sets(("image", "audio"), whole_number("n_tasks", n_tasks)))
    return Stream.from_dataset(
        pairs,
        scenario=scenario,
        n_tasks=n_tasks,
        domains=speaker[recording] if by_speaker else None,
        test=torch.arange(len(recording)) >= len(train),
        task_names=[str(data["speakers"][s]) for s in speaker.unique().tolist()] if by_speaker else None,
        class_names=DIGIT_WORDS,
        seed=seed,
        **dealing,
    )


def _partners(wanted: Tensor, digit: Tensor, allowed: Tensor, seed: int) -> Tensor:
    """For every wanted class [N] another image [N] of that class among the allowed ones, drawn by hash order."""
    partner = torch.empty_like(wanted)
    shuffled = reservoir_keys(seed, torch.arange(len(digit))).argsort()
    shuffled = shuffled[allowed[shuffled]]
    for label in wanted.unique().tolist():
        rows = (wanted == label).nonzero().flatten()
        partner[rows] = shuffled[digit[shuffled] == label][: len(rows)]
    return partner
