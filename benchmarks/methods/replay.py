"""Replay on real multimodal streams, class by class: every method at three budgets, and what the memory should keep.

    export PYFAST_MMCL_DATA=folder OMP_NUM_THREADS=1
    python -m benchmarks.methods.replay budgets       # every method, three budgets, five seeds
    python -m benchmarks.methods.replay modalities    # er that keeps all modalities of a row, or only one

Runs that are in the result folders already are not repeated: interrupt and continue at will.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods import replay_texts as texts
from benchmarks.methods import results
from benchmarks.methods.replay_settings import SETTINGS, Setting, replay_of
from benchmarks.methods.results import Experiment, Row
from pyfast_mmcl.data import Stream
from pyfast_mmcl.train import History, Part, run_continual

SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Line:
    """A line of the tables of budgets: a recipe, the kind of model it is run with, arguments, whether it keeps rows."""

    recipe: str
    model: str = "classifier"
    hyper: tuple[tuple[str, Any], ...] = ()
    keeps: bool = True


BASELINES = {name: Line(name, keeps=False) for name in ("finetune", "joint")}
METHODS = {name: Line(name) for name in ("er", "der", "derpp", "er_ace", "gdumb", "mir", "agem", "icarl")} | {
    "samm": Line("samm", "modality heads"),
    "kdr": Line("kdr", "dual encoder"),
    "kdr, no replay, no distillation": Line("kdr", "dual encoder", (("replay_weight", 0), ("distill_weight", 0))),
    "vqacl": Line("vqacl", "tokens"),
    "er, sequence model": Line("er", "tokens"),
    "finetune, sequence model": Line("finetune", "tokens", keeps=False),
    "joint, sequence model": Line("joint", "tokens", keeps=False),
}


@dataclass(frozen=True)
class Run:
    """One line on one stream: what is trained, on which modality alone, and the tables it is shown in."""

    shown: tuple[str, ...]
    line: str
    method: str | Callable[[], list[Part]]
    hyper: dict[str, Any]
    only: str | None = None
    model: str = "classifier"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.replay", description=__doc__)
    parser.add_argument("what", choices=("budgets", "modalities"))
    parser.add_argument("--stream", action="append", help="only streams whose name contains this")
    parser.add_argument("--method", action="append", help="only these lines of the table")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args(argv)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("set OMP_NUM_THREADS=1: these models are too small for more", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    began = time.process_time()
    about = experiment(options.what)
    for name, setting in SETTINGS.items():
        if options.stream and not any(part in name for part in options.stream):
            continue
        for run in runs(options.what, name, setting):
            if not options.method or run.line in options.method:
                for seed in SEEDS:
                    measured(about, setting, run, seed, options.results)
    print(f"{time.process_time() - began:.0f} CPU seconds")
    return 0


def experiment(what: str) -> Experiment:
    """The experiment that a result folder holds."""
    shown, lines = [], []
    for name, setting in SETTINGS.items():
        for run in runs(what, name, setting):
            shown += [s for s in run.shown if s not in shown]
            lines += [run.line] if run.line not in lines else []
    config = {"optimizer": "adamw", "batch": 32, "embedding": 64, "seeds": list(SEEDS)}
    return Experiment(
        name=f"replay-{what}", config=config, streams=tuple(shown), methods=tuple(lines), **texts.ABOUT[what]
    )  # fmt: skip


def runs(what: str, name: str, setting: Setting) -> Iterator[Run]:
    """Everything that is run on one stream."""
    shown = tuple(f"{name}, {rows} rows" for rows in setting.budgets)
    if what == "budgets":
        for name, line in (BASELINES | METHODS).items():
            if not line.keeps:
                # What keeps nothing is run once and stands in the table of every budget.
                yield Run(shown, name, line.recipe, dict(line.hyper), model=line.model)
                continue
            for budget, rows in zip(shown, setting.budgets, strict=True):
                yield Run((budget,), name, line.recipe, {"capacity": rows, **dict(line.hyper)}, model=line.model)
        return
    rows, shown, sizes = setting.budgets[1], shown[1:2], setting.numbers
    yield from (Run(shown, method, method, {}) for method in BASELINES)
    yield Run(shown, "er, all modalities kept", partial(replay_of, tuple(sizes), rows), {})
    for modality, size in sizes.items():
        more = rows * sum(sizes.values()) // size
        yield Run(shown, f"er, only {modality} kept", partial(replay_of, (modality,), rows), {})
        yield Run(shown, f"er, only {modality} kept, as many bytes", partial(replay_of, (modality,), more), {})
        fair = partial(replay_of, (modality,), more, shown_so=True)
        yield Run(shown, f"er, only {modality} kept, as many bytes, half of the fresh rows alike", fair, {})
    for modality in sizes:
        method = partial(replay_of, (modality,), rows)
        yield Run(shown, f"er, learner of {modality} alone", method, {}, only=modality)
        yield Run(shown, f"joint, learner of {modality} alone", "joint", {}, only=modality)


def measured(about: Experiment, setting: Setting, run: Run, seed: int, root: Path) -> None:
    """One run, recorded under every name it is shown under, unless it is recorded already."""
    folder = root / about.name
    done = {(r.stream, r.method, r.seed) for r in results.read(folder).rows} if folder.exists() else set()
    if all((stream, run.line, seed) in done for stream in run.shown):
        return
    history = train(setting, run, seed)
    rows = [
        Row(stream, run.line, seed, name, value) for stream in run.shown for name, value in measures(history).items()
    ]
    results.record(about, rows, threads=1, root=root)
    print(f"{run.shown[0]} · {run.line} · seed {seed}: {history.summary()['last_accuracy']:.3f}", flush=True)


def train(setting: Setting, run: Run, seed: int) -> History:
    stream: Stream = setting.stream(seed=seed, missing=setting.all_but(run.only))
    return run_continual(
        run.method if isinstance(run.method, str) else run.method(),
        stream,
        model=setting.model(run.model, stream, seed),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        lr=setting.lr,
        seed=seed,
        device="cpu",
        progress=False,
        **run.hyper,
    )


def measures(history: History) -> dict[str, float]:
    summary = history.summary()
    values = {name: summary[name] for name in ("last_accuracy", "average_incremental_accuracy", "forgetting")}
    return values | {"seconds": sum(history.seconds), "kept_kib": history.kept_bytes[-1] / 1024}


if __name__ == "__main__":
    raise SystemExit(main())
