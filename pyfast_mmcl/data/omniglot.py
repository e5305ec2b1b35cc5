"""Omniglot: characters as images and as the pen strokes that drew them, tested on people the model has not met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data.folder import HELD_OUT, read_arrays
from pyfast_mmcl.data.imbalance import rotating_sets
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream

# The last people of the list are tested on, the ones before them are for validation.
_FIRST_TEST, _FIRST_VALIDATION = 15, 11


def omniglot_stream(
    scenario: str | Scenario = "cil",
    n_tasks: int | None = None,
    *,
    held_out: str = "test",
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """2,720 drawings of 136 characters: an image [1, 35, 35] in [0, 1] and strokes [4, 64] (x, y, pen up, stroke).

    scenario   "cil", "til", or "mdtil": the tasks have the images, the strokes, both, and again
    n_tasks    None: one of the five alphabets per task (20 to 40 characters); a number deals the characters evenly
    held_out   "test": people 15 to 20 of each alphabet. "validation": these are left out and people 11 to 14 tested
               on instead, to choose hyper-parameters
    dealing    further arguments of ``Stream.from_dataset``: missing, task_order, long_tail, …
    folder     where omniglot.npz lies; by default the folder named by PYFAST_MMCL_DATA

    Ink is 1 and paper 0. Reference: Lake, Salakhutdinov, Tenenbaum, Science 350, 2015.
    """
    scenario = get_scenario(scenario)
    if scenario.labels != "disjoint":
        raise InputError(f"omniglot_stream: expected scenario cil, til or mdtil, got {scenario.name!r}.")
    if held_out not in HELD_OUT:
        raise unknown_name("choice for held_out", held_out, HELD_OUT)
    data = read_arrays("omniglot.npz", folder)
    target = torch.from_numpy(data["y"].astype(np.int64))
    drawer = torch.from_numpy(data["drawer"])
    used = drawer < (_FIRST_TEST if held_out == "validation" else int(drawer.max()) + 1)
    tested = drawer >= (_FIRST_TEST if held_out == "test" else _FIRST_VALIDATION)
    image = torch.from_numpy(data["image"]).unsqueeze(1).to(torch.float32) / 255
    stroke = torch.from_numpy(data["stroke"]).to(torch.float32)
    alphabet = torch.from_numpy(data["alphabet"])
    if scenario.modalities == "per task":
        n = len(data["alphabets"]) if n_tasks is None else whole_number("n_tasks", n_tasks)
        dealing.setdefault("task_modalities", rotating_sets(("image", "stroke"), n))
    return Stream.from_dataset(
        Records({"image": image[used], "stroke": stroke[used]}, target[used]),
        scenario=scenario,
        n_tasks=n_tasks,
        classes=[target[alphabet == a].unique().tolist() for a in alphabet.unique()] if n_tasks is None else None,
        task_names=[str(name) for name in data["alphabets"]] if n_tasks is None else None,
        test=tested[used],
        class_names=[str(name) for name in data["classes"]],
        seed=seed,
        **dealing,
    )
