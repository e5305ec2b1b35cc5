"""Every continual-learning method on every real stream it fits, beside finetune, joint and a frozen model.

    export PYFAST_MMCL_DATA=folder OMP_NUM_THREADS=1
    python -m benchmarks.methods.shows "HAR"                 # the streams whose name contains HAR
    python -m benchmarks.methods.shows --list                # what there is

A method whose strength matters is tuned first, on validation rows and a seed that the table does not use. Runs that are
in the result folders already, at the same strength, are not repeated: interrupt and continue at will, but let no two
processes write the same folder. Streams are rows of the tables of `shows_streams` and `shows_clip`, methods rows of
`shows_lines`. What starts from a pretrained CLIP takes the one that `pretrain_tiny_clip` has made, or any other:

    python -m benchmarks.methods.shows "MTIL" --clip ViT-B-16 --weights vit_b_16.safetensors --results elsewhere
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods import results, shows_clip, shows_streams
from benchmarks.methods.results import Column, Experiment, Row, Table
from benchmarks.methods.show import Show
from benchmarks.methods.shows_lines import LINES, Line
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train import History, run_continual
from pyfast_mmcl.train.run import default_model

SHOWS = {show.title: show for show in (*shows_streams.STREAMS, *shows_clip.STREAMS)}
TUNING_SEED = 100
HOW = (
    "Figures are means over tasks after the last one, forgetting that of Chaudhry et al. The model is the package's "
    "own for the stream unless a CLIP is named. A strength is the best of a few on validation rows, with a seed that "
    "the table does not use; for hat, moe_adapters, s_liprompts and cpe_clip it is the learning rate. All else is the "
    "recipe's default. joint sees the data of all tasks so far; kept KiB count everything that a method keeps beside "
    "the model."
)
VALIDATION = "validation_accuracy"
INITIAL = "untrained_accuracy"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.shows", description=__doc__)
    parser.add_argument("show", nargs="*", help="only streams whose name contains one of these")
    parser.add_argument("--method", action="append", help="only these lines of the tables")
    parser.add_argument("--seeds", type=int, help="only this many of the seeds")
    parser.add_argument("--clip", default="tiny", help="open_clip architecture to start from")
    parser.add_argument("--weights", type=Path, help="its weights: a .safetensors file or a folder with one")
    parser.add_argument("--list", action="store_true", help="name the streams and their methods, and stop")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args(argv)
    wanted = [s for s in SHOWS.values() if not options.show or any(part in s.title for part in options.show)]
    shows = [shows_clip.started(show, options.clip, options.weights) for show in wanted]
    if options.list:
        print("\n".join(f"{s.title}: {', '.join(s.methods)}" for s in shows))
        return 0
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("set OMP_NUM_THREADS=1: these models are too small for more", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    failed = 0
    for show in shows:
        for seed in show.seeds[: options.seeds]:
            # Seeds outside, methods inside: a run that is cut short has every method on as many seeds.
            for name in options.method or show.methods:
                failed += not attempted(show, name, seed, options.results)
        if (options.results / show.folder).exists():
            results.record(experiment(show), [], threads=1, root=options.results)  # prose that has changed since
    return 1 if failed else 0


def attempted(show: Show, name: str, seed: int, root: Path) -> bool:
    """One final run, tuned before; what a method refuses is said and the others go on."""
    try:
        measured(show, name, seed, "test", tuned(show, name, root), root)
    except InputError as error:
        print(f"{show.title} · {name} · seed {seed}: {error}", file=sys.stderr, flush=True)
        return False
    return True


def experiment(show: Show) -> Experiment:
    """The experiment that the result folder of a stream holds."""
    config: dict[str, Any] = {
        "optimizer": "adamw",
        "epochs": show.epochs,
        "batch": show.batch_size,
        "lr": show.lr,
        "memory rows": show.capacity,
        "seeds": list(show.seeds),
        "tuning seed": TUNING_SEED,
    }
    candidates = [candidate(name, value) for name in show.methods for value in LINES[name].grid]
    return Experiment(
        name=show.folder,
        title=show.title,
        text=f"{show.text} {HOW}",
        config=config | dict(show.config),
        streams=(show.title,),
        methods=(*show.methods, *candidates),
        tables=(Table(show.table, (*(Column(*c) for c in show.columns), *_COMMON)),),
        notes=show.notes,
        packages=show.packages,
    )


_COMMON = (Column("strength", "strength", digits=None), Column("kept_kib", "kept KiB", digits=0))


def candidate(name: str, strength: float) -> str:
    return f"{name} {strength:g}"


def tuned(show: Show, name: str, root: Path) -> float | None:
    """The strength with the best validation accuracy, the smaller one of equals; None where nothing is tuned."""
    line = LINES[name]
    if line.like:
        return tuned(show, line.like, root)
    if not line.grid:
        return None
    scores = {value: measured(show, name, TUNING_SEED, "validation", value, root) for value in sorted(line.grid)}
    return max(scores, key=lambda value: scores[value])


def measured(show: Show, name: str, seed: int, held_out: str, strength: float | None, root: Path) -> float:
    """One run, recorded unless it is recorded already at this strength; returns its accuracy at the end."""
    about, folder = experiment(show), root / show.folder
    trial = held_out == "validation"
    method, measure = (candidate(name, strength), VALIDATION) if trial else (name, "last_accuracy")
    rows = results.read(folder).rows if folder.exists() else []
    done = {r.measure: r.value for r in rows if (r.method, r.seed) == (method, seed)}
    if measure in done and (trial or done.get("strength") == strength):
        return done[measure]
    began = time.perf_counter()
    found = measures(train(show, LINES[name], seed, held_out, strength), show)
    if trial:
        found = {VALIDATION: found["last_accuracy"]}
    elif strength is not None:
        found["strength"] = strength
    results.record(about, [Row(show.title, method, seed, m, v) for m, v in found.items()], threads=1, root=root)
    took = time.perf_counter() - began
    print(f"{show.title} · {method} · seed {seed}: {found[measure]:.3f} ({took:.0f} s)", flush=True)
    return found[measure]


def train(show: Show, line: Line, seed: int, held_out: str, strength: float | None) -> History:
    """A line of the table on a stream, at one strength."""
    stream = show.stream(held_out, seed)
    hyper, lr = dict(line.fixed), show.lr
    if line.keeps:
        hyper["capacity"] = show.capacity
    if strength is not None and line.strength == "lr":
        lr = strength
    elif strength is not None:
        hyper[line.strength] = strength
    model = show.model(stream) if show.model else default_model(stream, seed=seed) if line.plain else None
    return run_continual(
        line.recipe,
        stream,
        model=model,
        epochs=show.epochs,
        batch_size=show.batch_size,
        optimizer=line.optimizer,
        lr=lr,
        seed=seed,
        device="cpu",
        progress=False,
        measure=show.measure,
        **hyper,
    )


def measures(history: History, show: Show) -> dict[str, float]:
    """What is recorded of a run: the columns of the show, and what every show has."""
    summary = history.summary()
    names = dict.fromkeys(("last_accuracy", *(column[0] for column in show.columns)))
    found = {name: summary[name] for name in names}
    found |= {f"last_accuracy_{i + 1}": value for i, value in enumerate(history.accuracy[-1])}
    found[INITIAL] = sum(history.initial) / len(history.initial)
    return found | {"seconds": sum(history.seconds), "kept_kib": history.kept_bytes[-1] / 1024}


if __name__ == "__main__":
    raise SystemExit(main())
