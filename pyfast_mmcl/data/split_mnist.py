"""Split MNIST: two digits per task (Zenke et al. 2017, section 5.1), in three scenarios."""

from __future__ import annotations

from pathlib import Path

import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data.folder import every_fifth
from pyfast_mmcl.data.mnist import read_mnist
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.text import DIGIT_WORDS


def split_mnist_stream(
    scenario: str | Scenario = "cil",
    n_tasks: int = 5,
    *,
    held_out: str = "test",
    folder: str | Path | None = None,
) -> Stream:
    """10,000 MNIST digits as images [784] in [0, 1]; the ten digits dealt to ``n_tasks`` tasks in ascending order.

    scenario   "cil": which of ten digits; "til": which digit of the task, whose id is known; "dil": odd or even, the
               same two classes in every task
    held_out   "test", or "validation" to choose hyper-parameters without a test digit (``every_fifth``)
    folder     where the t10k files lie; by default the folder named by PYFAST_MMCL_DATA

    Reference: Zenke, Poole, Ganguli, ICML 2017, section 5.1; van de Ven and Tolias, arXiv:1904.07734 (scenarios).
    """
    scenario = get_scenario(scenario)
    if scenario.name not in ("cil", "til", "dil"):
        raise InputError(f"split_mnist_stream: expected scenario cil, til or dil, got {scenario.name!r}.")
    images, digit = read_mnist(folder)
    used, tested = every_fifth(len(digit), held_out)
    images, digit, tested = images[used].flatten(1).to(torch.float32) / 255, digit[used], tested[used]
    if scenario.labels == "disjoint":
        records = Records({"image": images}, digit)
        return Stream.from_dataset(records, scenario=scenario, n_tasks=n_tasks, test=tested, class_names=DIGIT_WORDS)
    if 10 % n_tasks or n_tasks == 10:
        raise InputError(f"n_tasks: a task needs as many odd as even digits, so expected 1 or 5, got {n_tasks}.")
    return Stream.from_dataset(
        Records({"image": images}, digit % 2),
        scenario=scenario,
        domains=digit // (10 // n_tasks),
        test=tested,
        class_names=("even", "odd"),
    )
