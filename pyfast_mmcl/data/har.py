"""Human activities from phone and watch: four sensor modalities, tested on people the model has not met."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data.folder import HELD_OUT, read_arrays
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream

SENSORS = ("phone acceleration", "phone rotation", "watch acceleration", "watch rotation")


def har_stream(
    scenario: str | Scenario = "cil",
    n_tasks: int | None = None,
    *,
    held_out: str = "test",
    missing: Mapping[str, float] | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
) -> Stream:
    """2,380 windows of 64 samples (50 Hz) of four sensors [3, 64] each; 5 activities of 18 people.

    scenario   "cil" or "til": the activities dealt to ``n_tasks`` tasks (default 2); "dil": one group of people per
               task (default 3, at most 6), the same activities in each
    held_out   "test": every third person is tested on and never trained on. "validation": these are left out, and of
               the others every second one is tested on, to choose hyper-parameters.
    missing    {sensor: share of windows without it}; seed decides which
    folder     where har.npz lies; by default the folder named by PYFAST_MMCL_DATA

    The split is by person because windows overlap by half. Every channel has mean 0 and standard deviation 1 over the
    people trained on.
    """
    scenario = get_scenario(scenario)
    data = read_arrays("har.npz", folder)
    x, target = torch.from_numpy(data["X"]).to(torch.float32), torch.from_numpy(data["y"].astype(np.int64))
    person = torch.from_numpy(data["subject"]).unique(return_inverse=True)[1]
    used, tested = _held_out_people(person, held_out)
    domains = None
    if scenario.labels == "shared":
        n_people = int(person.max()) + 1
        n_tasks = whole_number("n_tasks", 3 if n_tasks is None else n_tasks)
        if n_tasks > n_people // 3:
            raise InputError(f"n_tasks: every task needs three people, so expected at most {n_people // 3}.")
        domains = (person * n_tasks // n_people)[used]
    return Stream.from_dataset(
        Records(_sensors(x, used & ~tested, used), target[used]),
        scenario=scenario,
        n_tasks=2 if n_tasks is None else n_tasks,
        domains=domains,
        test=tested[used],
        missing=missing,
        class_names=[str(name).lower().replace("_", " ") for name in data["labels"]],
        seed=seed,
    )


def _held_out_people(person: Tensor, held_out: str) -> tuple[Tensor, Tensor]:
    """bool [N] which windows are used, and which of them are tested on."""
    if held_out not in HELD_OUT:
        raise unknown_name("choice for held_out", held_out, HELD_OUT)
    third = person % 3
    return (third >= 0, third == 2) if held_out == "test" else (third != 2, third == 1)


def _sensors(x: Tensor, trained: Tensor, used: Tensor) -> dict[str, Tensor]:
    """{sensor: [N, 3, 64]} of the windows used, in units of the windows trained on."""
    center, spread = x[trained].mean((0, 2), keepdim=True), x[trained].std((0, 2), keepdim=True)
    x = (x[used] - center) / spread
    return {name: x[:, 3 * i : 3 * i + 3].contiguous() for i, name in enumerate(SENSORS)}
