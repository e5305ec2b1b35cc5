"""Permuted MNIST: the same digits, every task with its own order of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.data.folder import every_fifth
from pyfast_mmcl.data.mnist import read_mnist
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.text import DIGIT_WORDS
from pyfast_mmcl.ops.sampling import fold_seed, reservoir_keys


def permuted_mnist_stream(
    n_tasks: int | None = None,
    *,
    scenario: str | Scenario = "dil",
    rows: int | None = None,
    held_out: str = "test",
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """Domain-incremental: ten classes in every task, pixels [784] in [0, 1] in an order drawn from (seed, task).

    n_tasks    number of tasks (default 5); the first keeps the pixels in place, the others permute them
    scenario   "dil" alone: permuted pixels are a change of the inputs
    rows       use only the first ``rows`` digits of the file (default: all 10,000)
    held_out   "test", or "validation" to choose hyper-parameters without a test digit (``every_fifth``)
    dealing    further arguments of ``Stream.from_dataset``: validation, task_order, …
    folder     where the t10k files lie; by default the folder named by PYFAST_MMCL_DATA

    A digit that is tested on is tested on in every task. Pixels are kept as float16, 16 MB per task.

    Reference: Goodfellow et al., arXiv:1312.6211, 2013; Kirkpatrick et al., PNAS 2017.
    """
    if get_scenario(scenario).name != "dil":
        raise InputError(f"permuted_mnist_stream: expected scenario dil, got {get_scenario(scenario).name!r}.")
    n_tasks = whole_number("n_tasks", 5 if n_tasks is None else n_tasks)
    images, digit = read_mnist(folder)
    used, tested = every_fifth(len(digit), held_out)
    if rows is not None:
        used &= torch.arange(len(used)) < whole_number("rows", rows)
    pixels = images[used].flatten(1).to(torch.float16) / 255
    places = torch.arange(pixels.shape[1])
    orders = [reservoir_keys(fold_seed(seed, t), places).argsort() if t else places for t in range(n_tasks)]
    return Stream.from_dataset(
        Records({"image": torch.cat([pixels[:, order] for order in orders])}, digit[used].repeat(n_tasks)),
        scenario="dil",
        domains=torch.arange(n_tasks).repeat_interleave(len(pixels)),
        test=tested[used].repeat(n_tasks),
        class_names=DIGIT_WORDS,
        seed=seed,
        **dealing,
    )
