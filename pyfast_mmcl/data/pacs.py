"""PACS: seven kinds of objects as photos, paintings, cartoons and sketches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.data.folder import every_fifth, read_arrays
from pyfast_mmcl.data.images import pixels, rgb
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream


def pacs_stream(
    scenario: str | Scenario = "dil",
    n_tasks: int | None = None,
    *,
    held_out: str = "test",
    size: int | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """9,991 pictures [3, 32, 32] in [0, 1] of 7 classes in 4 styles.

    scenario   "dil": one style per task, photo, art painting, cartoon, sketch, or the first ``n_tasks`` of them; "cil"
               or "til": the classes dealt to ``n_tasks`` (default 3) tasks, all styles in each
    held_out   "test": every fifth picture. "validation": these are left out and their neighbours tested on instead
    size       pixels of a side, None: 32 as in the file
    dealing    further arguments of ``Stream.from_dataset``: validation, task_order, long_tail, …
    folder     where pacs.npz lies; by default the folder named by PYFAST_MMCL_DATA

    Reference: Li et al., *Deeper, Broader and Artier Domain Generalization*, ICCV 2017.
    """
    scenario = get_scenario(scenario)
    if scenario.name not in ("cil", "til", "dil"):
        raise InputError(f"pacs_stream: expected scenario dil, cil or til, got {scenario.name!r}.")
    data = read_arrays("pacs.npz", folder)
    used, tested = every_fifth(len(data["y"]), held_out)
    domain, shared = torch.from_numpy(data["domain"].astype(np.int64)), scenario.labels == "shared"
    n_tasks = (4 if shared else 3) if n_tasks is None else whole_number("n_tasks", n_tasks)
    if shared:
        used &= domain < n_tasks
    return Stream.from_dataset(
        Records(
            {"image": rgb(data["x"][used.numpy()], size)},
            torch.from_numpy(data["y"].astype(np.int64))[used],
            prepare={"image": pixels},
        ),
        scenario=scenario,
        n_tasks=n_tasks,
        domains=domain[used] if shared else None,
        task_names=[str(name).replace("_", " ") for name in data["domains"][:n_tasks]] if shared else None,
        test=tested[used],
        class_names=[str(name) for name in data["classes"]],
        seed=seed,
        **dealing,
    )
