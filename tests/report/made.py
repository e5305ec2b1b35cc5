"""Run folders written without training: a record and a history, as `pyfast-mmcl train` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pyfast_mmcl.report import runs
from pyfast_mmcl.train import History


def history(method: str = "er", seed: int = 0, T: int = 3, **fields: Any) -> History:
    """A finished record of T tasks whose accuracies the seed decides."""
    A = np.random.default_rng([seed, len(method), T]).uniform(0.1, 0.9, (T, T))
    made = History(method, "class-incremental", [f"task {j}" for j in range(T)], seed, {"epochs": 2})
    made.accuracy, made.initial = A.tolist(), [0.1] * T
    made.losses = [
        {"task": i, "epoch": e, "steps": 4, "terms": {"objective": 1.0 / (e + 1)}} for i in range(T) for e in range(2)
    ]
    made.seconds, made.peak_memory, made.kept_bytes = [0.5 + seed] * T, [2**28] * T, [2**20] * T
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def run(
    folder: Path,
    method: str = "er",
    seed: int = 0,
    *,
    stream: str = "digits",
    T: int = 3,
    hyper: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """A run folder; ``hyper`` joins the hyper-parameters, ``options`` the options, other fields the history."""
    folder.mkdir(parents=True)
    record = {"method": method, "stream": stream, "scenario": "cil", "tasks": None, "seed": seed, "set": hyper or {}}
    runs.write_record(folder, "train", {**record, **(options or {})})
    made = history(method, seed, T, **fields)
    made.hyper |= hyper or {}
    runs.write_json(folder / runs.RESULTS["train"], made.to_dict())
    return folder


def grid(
    root: Path, methods: tuple[str, ...] = ("er", "finetune", "joint"), seeds: int = 3, streams=("digits", "har")
) -> Path:
    """Methods × seeds × streams as run folders below ``root``."""
    for stream in streams:
        for method in methods:
            for seed in range(seeds):
                run(root / f"{method}-{stream}-{seed}", method, seed, stream=stream)
    return root
