"""Weight regularisation on real streams: every method against finetune, joint and er, at strengths tuned elsewhere.

    python -m benchmarks.methods.regularization tune        # each method's strength, on validation digits and people
    python -m benchmarks.methods.regularization run         # five other seeds at those strengths, on the test rows
    python -m benchmarks.methods.regularization labels      # ewc with four estimators of the Fisher, tuned likewise

A grid whose best strength lies at an end is continued there by up to three decades. Runs that are in the result folders
already, at the same strength, are not repeated: interrupt and continue at will.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods import regularization_texts as texts
from benchmarks.methods import results
from benchmarks.methods.results import Experiment, Row
from pyfast_mmcl.data import Stream, har_stream, permuted_mnist_stream, split_mnist_stream
from pyfast_mmcl.train import History, run_continual

SEEDS = (0, 1, 2, 3, 4)
FEW, MORE = (100, 101), (100, 101, 102, 103, 104)
# How far a grid may grow at an end. Three decades below a grid every penalty is too weak to be told from none.
MORE_DECADES = 3


@dataclass(frozen=True)
class Setting:
    """A stream, as a function of (held_out, seed), and how it is trained on.

    scale   factor of every grid of strengths, where short steps or long ones move their optimum
    tuning  seeds that strengths are chosen with: more of them where two cannot tell strengths apart
    """

    stream: Callable[[str, int], Stream]
    epochs: int
    batch_size: int
    lr: float = 1e-3
    scale: float = 1.0
    tuning: tuple[int, ...] = FEW


def split(scenario: str) -> Setting:
    return Setting(lambda held_out, seed: split_mnist_stream(scenario, held_out=held_out), 3, 64)


def permuted() -> Setting:
    def stream(held_out: str, seed: int) -> Stream:
        return permuted_mnist_stream(5, rows=2500, held_out=held_out, seed=seed)

    return Setting(stream, 3, 64, lr=5e-3, scale=0.1)


def har(scenario: str, tuning: tuple[int, ...] = FEW) -> Setting:
    return Setting(lambda held_out, seed: har_stream(scenario, held_out=held_out, seed=seed), 10, 32, tuning=tuning)


SETTINGS = {
    "split MNIST, task ids (TIL)": split("til"),
    "split MNIST, odd or even (DIL)": split("dil"),
    "permuted MNIST (DIL)": permuted(),
    "HAR, task ids (TIL)": har("til"),
    "HAR, groups of people (DIL)": har("dil"),
    "split MNIST, classes (CIL)": split("cil"),
    "HAR, activities (CIL)": har("cil", MORE),
}
LABEL_STREAMS = ("split MNIST, task ids (TIL)", "permuted MNIST (DIL)")


@dataclass(frozen=True)
class Entry:
    """A line of a table: a recipe, fixed arguments, and the strength that is tuned over ``grid``.

    like: the line whose tuned strength is taken over, because the penalties are of one scale.
    """

    recipe: str
    strength: str = ""
    grid: tuple[float, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()
    like: str = ""


def decades(first: int, last: int) -> tuple[float, ...]:
    return tuple(10.0**e for e in range(first, last + 1))


BASELINES = {name: Entry(name) for name in ("finetune", "joint", "er")}
METHODS = BASELINES | {
    "ewc": Entry("ewc", "lam", decades(2, 5)),
    "ewc_huszar": Entry("ewc_huszar", "lam", like="ewc"),
    "online_ewc": Entry("online_ewc", "lam", like="ewc"),
    "mas": Entry("mas", "lam", decades(-2, 1)),
    "si": Entry("si", "c", decades(-1, 2)),
    "tir": Entry("tir", "lam", decades(2, 5)),
}
LABELS = {
    "exact": Entry("ewc", "lam", decades(2, 5), (("labels", "exact"),)),
    "sampled": Entry("ewc", "lam", decades(2, 5), (("labels", "sampled"),)),
    "empirical": Entry("ewc", "lam", decades(2, 5), (("labels", "empirical"),)),
    "batch": Entry("ewc", "lam", decades(4, 7), (("labels", "batch"),)),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.regularization", description=__doc__)
    parser.add_argument("what", choices=("tune", "run", "labels"))
    parser.add_argument("--stream", action="append", help="only streams whose name contains this")
    parser.add_argument("--method", action="append", help="only these lines of the table")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args(argv)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("set OMP_NUM_THREADS=1: these models are too small for more", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    began = time.process_time()
    entries, streams = (LABELS, LABEL_STREAMS) if options.what == "labels" else (METHODS, tuple(SETTINGS))
    chosen = [s for s in streams if not options.stream or any(part in s for part in options.stream)]
    names = [name for name in entries if not options.method or name in options.method]
    prefix = "fisher-labels" if options.what == "labels" else "regularization"
    for stream in chosen:
        for name in names:
            if options.what != "run":
                tune(experiment(f"{prefix}-tuning", entries), stream, name, entries[name], options.results)
            if options.what != "tune":
                final(prefix, stream, name, entries, options.results)
    print(f"{time.process_time() - began:.0f} CPU seconds")
    return 0


def experiment(name: str, entries: dict[str, Entry]) -> Experiment:
    """The experiment that a result folder holds; a tuning folder has a method per strength and no tables."""
    tuning = name.endswith("-tuning")
    methods = [candidate(m, v) for m, e in entries.items() for v in strengths(e)] if tuning else list(entries)
    if name == "fisher-labels":
        methods += [borrowed(m) for m in entries if m != "exact"]
    streams = LABEL_STREAMS if name.startswith("fisher-labels") else tuple(SETTINGS)
    config = {"optimizer": "adamw", "hidden widths": [128, 64, 64], "er memory": 200}
    return Experiment(
        name=name,
        config=config if tuning else {**config, "seeds": list(SEEDS)},
        streams=streams,
        methods=tuple(methods),
        packages=("torch",),
        **texts.ABOUT[name],
    )


def strengths(entry: Entry) -> list[float]:
    """Every strength that some stream may try, in ascending order."""
    return sorted({strength for stream in SETTINGS for strength in wide_grid(stream, entry)})


def candidate(method: str, strength: float) -> str:
    return f"{method} {strength:g}"


def borrowed(method: str) -> str:
    return f"{method}, λ of exact"


def tune(about: Experiment, stream: str, name: str, entry: Entry, root: Path) -> None:
    """Run the grid of an entry on the tuning seeds, tested on validation rows, until its best strength has neighbours.

    A grid grows by MORE_DECADES at most: a method that is best at no strength at all has no best one inside.
    """
    tried = list(grid(stream, entry))
    most = len(tried) + MORE_DECADES
    while tried:
        for strength in tried:
            for seed in SETTINGS[stream].tuning:
                measured(about, stream, candidate(name, strength), entry, strength, "validation", seed, root)
        chosen = best(about, stream, name, entry, root)
        beyond = {tried[0]: tried[0] / 10, tried[-1]: tried[-1] * 10}.get(chosen)
        if beyond is None or len(tried) == most:
            return
        tried = sorted((*tried, rounded(beyond)))


def best(about: Experiment, stream: str, name: str, entry: Entry, root: Path) -> float | None:
    """The strength with the best mean accuracy on the validation rows; the smaller one of equals."""
    if not entry.grid:
        return None
    rows = [r for r in results.read(root / about.name).rows if r.stream == stream and r.measure == "last_accuracy"]
    scores = {}
    for strength in wide_grid(stream, entry):
        values = [r.value for r in rows if r.method == candidate(name, strength)]
        if len(values) >= len(SETTINGS[stream].tuning):
            scores[strength] = statistics.fmean(values)
        elif strength in grid(stream, entry):
            raise SystemExit(f"{stream}: {candidate(name, strength)} has not been tuned; run `tune` first")
    return max(scores, key=lambda s: scores[s])


def grid(stream: str, entry: Entry) -> tuple[float, ...]:
    """The strengths that every tuning of an entry tries, ascending."""
    return tuple(rounded(strength * SETTINGS[stream].scale) for strength in entry.grid)


def wide_grid(stream: str, entry: Entry) -> tuple[float, ...]:
    """The grid and the decades that it may grow by."""
    first = grid(stream, entry)
    steps = [10.0**e for e in range(1, MORE_DECADES + 1)] if first else []
    return tuple(sorted((*first, *(rounded(first[0] / s) for s in steps), *(rounded(first[-1] * s) for s in steps))))


def rounded(strength: float) -> float:
    return float(f"{strength:g}")


def final(prefix: str, stream: str, name: str, entries: dict[str, Entry], root: Path) -> None:
    """Run an entry at its tuned strength on the final seeds; tested on test rows."""
    about, tuning, entry = experiment(prefix, entries), experiment(f"{prefix}-tuning", entries), entries[name]
    tuned = entry.like or name
    lines = {name: best(tuning, stream, tuned, entries[tuned], root)}
    if prefix == "fisher-labels" and name != "exact":
        lines[borrowed(name)] = best(tuning, stream, "exact", entries["exact"], root)
    for line, strength in lines.items():
        for seed in SEEDS:
            measured(about, stream, line, entry, strength, "test", seed, root)


def measured(
    about: Experiment,
    stream: str,
    line: str,
    entry: Entry,
    strength: float | None,
    held_out: str,
    seed: int,
    root: Path,
) -> None:
    """One run, recorded under ``line``, unless it is recorded already at this strength."""
    folder = root / about.name
    rows = results.read(folder).rows if folder.exists() else []
    done = {r.measure: r.value for r in rows if (r.stream, r.method, r.seed) == (stream, line, seed)}
    if done and done.get("strength") == strength:
        return
    setting = SETTINGS[stream]
    hyper = {**dict(entry.fixed), **({} if strength is None else {entry.strength: strength})}
    history = run_continual(
        entry.recipe,
        setting.stream(held_out, seed),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        lr=setting.lr,
        seed=seed,
        device="cpu",
        progress=False,
        **hyper,
    )
    rows = [Row(stream, line, seed, measure, value) for measure, value in measures(history, strength).items()]
    results.record(about, rows, threads=1, root=root)
    print(f"{stream} · {line} · seed {seed}: {rows[0].value:.3f}", flush=True)


def measures(history: History, strength: float | None) -> dict[str, float]:
    summary = history.summary()
    values = {name: summary[name] for name in ("last_accuracy", "average_incremental_accuracy", "forgetting")}
    values |= {"seconds": sum(history.seconds), "kept_kib": history.kept_bytes[-1] / 1024}
    return values if strength is None else {**values, "strength": strength}


if __name__ == "__main__":
    raise SystemExit(main())
