"""Split MNIST: two digits per task (Zenke et al. 2017, section 5.1), in three scenarios."""

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


def split_mnist_stream(
    scenario: str | Scenario = "cil",
    n_tasks: int | None = None,
    *,
    held_out: str = "test",
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """10,000 MNIST digits as images [784] in [0, 1]; the digits dealt to ``n_tasks`` (default 5) tasks, ascending.

    scenario   "cil": which of ten digits; "til": which digit of the task, whose id is known; "dil": odd or even, the
               same two classes in every task
    held_out   "test", or "validation" to choose hyper-parameters without a test digit (``every_fifth``)
    dealing    further arguments of ``Stream.from_dataset``: validation, task_order, …; seed decides for them
    folder     where the t10k files lie; by default the folder named by PYFAST_MMCL_DATA

    Reference: Zenke, Poole, Ganguli, ICML 2017, section 5.1; van de Ven and Tolias, arXiv:1904.07734 (scenarios).
    """
    scenario = get_scenario(scenario)
    if scenario.name not in ("cil", "til", "dil"):
        raise InputError(f"split_mnist_stream: expected scenario cil, til or dil, got {scenario.name!r}.")
    n_tasks = 5 if n_tasks is None else whole_number("n_tasks", n_tasks)
    images, digit = read_mnist(folder)
    used, tested = every_fifth(len(digit), held_out)
    images, digit, tested = images[used].flatten(1).to(torch.float32) / 255, digit[used], tested[used]
    chosen: dict[str, Any] = {"scenario": scenario, "test": tested, "seed": seed, **dealing}
    if scenario.labels == "disjoint":
        return Stream.from_dataset(
            Records({"image": images}, digit), n_tasks=n_tasks, class_names=DIGIT_WORDS, **chosen
        )
    if 10 % n_tasks or n_tasks == 10:
        raise InputError(f"n_tasks: a task needs as many odd as even digits, so expected 1 or 5, got {n_tasks}.")
    return Stream.from_dataset(
        Records({"image": images}, digit % 2),
        domains=digit // (10 // n_tasks),
        class_names=("even", "odd"),
        **chosen,
    )
