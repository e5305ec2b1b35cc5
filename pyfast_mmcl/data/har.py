"""Human activities from phone and watch: four sensor modalities, tested on people the model has not met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """2,380 windows of 64 samples (50 Hz) of four sensors [3, 64] each; 5 activities of 18 people.

    scenario   "cil" or "til": the activities dealt to ``n_tasks`` tasks (default 2); "dil": one group of people per
               task (default 3, at most 6), the same activities in each; "mdtil": groups of people as before, the
               first seen by the phone's sensors, the next by the watch's, the third by both, and again; every task has
               its own five classes ("walking (phone)") and its id is known
    held_out   "test": every third person is tested on and never trained on. "validation": these are left out, and of
               the others every second one is tested on, to choose hyper-parameters.
    dealing    further arguments of ``Stream.from_dataset``: missing, task_order, long_tail, …
    folder     where har.npz lies; by default the folder named by PYFAST_MMCL_DATA

    The split is by person because windows overlap by half. Every channel has mean 0 and standard deviation 1 over the
    people trained on.
    """
    scenario = get_scenario(scenario)
    data = read_arrays("har.npz", folder)
    x, target = torch.from_numpy(data["X"]).to(torch.float32), torch.from_numpy(data["y"].astype(np.int64))
    person = torch.from_numpy(data["subject"]).unique(return_inverse=True)[1]
    used, tested = _held_out_people(person, held_out)
    names = [str(name).lower().replace("_", " ") for name in data["labels"]]
    records = Records(_sensors(x, used & ~tested, used), target[used])
    if scenario.labels == "disjoint" and scenario.modalities == "all":
        chosen: dict[str, Any] = {"n_tasks": 2 if n_tasks is None else n_tasks, "class_names": names}
    else:
        group = _groups_of_people(person, n_tasks)[used]
        chosen = {"domains": group, "class_names": names}
        if scenario.modalities == "per task":
            records.target += len(names) * group
            chosen = _seen_by(int(group.max()) + 1, names)
    return Stream.from_dataset(records, scenario=scenario, test=tested[used], seed=seed, **{**chosen, **dealing})


def _groups_of_people(person: Tensor, n_tasks: int | None) -> Tensor:
    n_people, n = int(person.max()) + 1, whole_number("n_tasks", 3 if n_tasks is None else n_tasks)
    if n > n_people // 3:
        raise InputError(f"n_tasks: every task needs three people, so expected at most {n_people // 3}, got {n}.")
    return person * n // n_people


def _seen_by(n_tasks: int, names: list[str]) -> dict[str, Any]:
    """Sensors, names and classes of every task; the classes of task t are 5t to 5t + 4."""
    turns = {"phone": SENSORS[:2], "watch": SENSORS[2:], "phone and watch": SENSORS}
    kinds = [list(turns)[t % 3] for t in range(n_tasks)]
    return {
        "classes": [list(range(len(names) * t, len(names) * (t + 1))) for t in range(n_tasks)],
        "task_modalities": [turns[kind] for kind in kinds],
        "task_names": [kind if t < 3 else f"{kind} {t // 3 + 1}" for t, kind in enumerate(kinds)],
        "class_names": [f"{name} ({kind})" for kind in kinds for name in names],
    }


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
