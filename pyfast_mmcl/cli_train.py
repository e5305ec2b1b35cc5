"""`pyfast-mmcl train`: one recipe on one stream, in a folder that survives a kill at any moment."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from ._errors import InputError
from .cli_errors import on_interrupt
from .cli_learner import SETTINGS
from .report import run_files, runs, tables

HISTORY = "history.json"
CHECKPOINTS = "checkpoints"
LOGS = "logs"

# What the options mean where neither the command line nor the run being resumed names them.
DEFAULTS: dict[str, Any] = {
    "method": "er",
    "stream": "digits",
    "scenario": None,
    "tasks": None,
    "clip": None,
    "weights": None,
    **SETTINGS,
    "trackers": [],
    "seed": 0,
    "set": {},
    "stream_set": {},
}


def parse_settings(pairs: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """`["capacity=500", "alpha=0.5"]` as a dictionary; values are JSON where they parse as JSON, else words."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.isidentifier():
            raise InputError(f"{flag} expects name=value, got {pair!r}; for example {flag} seed=1.")
        if name in settings:
            raise InputError(f"{flag} names {name} twice; keep one of them.")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = {"True": True, "False": False, "None": None}.get(value, value)
    return settings


def train(given: Mapping[str, Any], out: Path, *, resume: bool, checkpoint_every: int | None) -> None:
    """Run or resume a training run in `out` and print what it learnt.

    Args:
        given: the options named on the command line; None means not named.
        out: the run's folder.
        resume: continue the run in `out`; an absent or empty folder starts from the beginning.
        checkpoint_every: steps between checkpoints, beside those at the ends of epochs and tasks.
    Raises:
        InputError: unknown names, bad values, an occupied folder, other options than the run being resumed.
        CheckpointError: a damaged or foreign record or checkpoint.
    """
    from .cli_learner import launched

    found = runs.occupied(out)
    if found and not resume:
        raise InputError(f"{out} exists already; add --resume to continue it, or choose another --out.")
    options = _resumed(given, out) if found else {**DEFAULTS, **_named(given)}
    processes = launched(options["device"])
    main = processes is None or processes.is_main_process
    run = _prepared(options)
    if processes is not None:
        # All have looked into the folder before the first writes to it.
        processes.wait_for_everyone()
    console = Console(quiet=not main)
    if resume and not found:
        console.print(f"Nothing to resume in {out}: starting from the beginning.", highlight=False)
    again = f"pyfast-mmcl train --resume --out {shlex.quote(str(out))}"
    claim = runs.claimed(out, "train", options) if main else nullcontext()
    with claim, on_interrupt(f"interrupted; continue from the last checkpoint: {again}"):
        where = {"checkpoint_dir": out / CHECKPOINTS, "log_dir": out / LOGS, "checkpoint_every": checkpoint_every}
        history = run(**where, accelerator=processes, resume=True)
        if not main:
            return
        runs.write_json(out / HISTORY, history.to_dict())
        run_files.write(out, history)
    show(console, history, out)


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None and value not in ({}, [])}


def _resumed(given: Mapping[str, Any], out: Path) -> dict[str, Any]:
    record = runs.read_record(out)
    if record["kind"] != "train":
        raise InputError(f"{out} holds a {record['kind']} run, not a training run; choose another --out.")
    options = {**DEFAULTS, **record["options"]}
    for name, value in _named(given).items():
        if options.get(name) != value:
            raise InputError(
                f"{out} was started with {name}={options.get(name)}, got {value}; leave the option out to resume it, "
                "or choose another --out."
            )
    return options


def _prepared(options: Mapping[str, Any]) -> Callable[..., Any]:
    """Build everything that can be wrong before any file is written; the result runs the training."""
    from . import cli_learner
    from .cli_streams import build_stream
    from .train import run_continual
    from .train.registry import get_recipe

    entry = get_recipe(options["method"])
    entry.build(**options["set"])
    stream = build_stream(options)
    cli_learner.check(options, stream)
    model = cli_learner.build_model(options, stream)

    def run(**where: Any) -> Any:
        chosen = {name: options[name] for name in (*SETTINGS, "seed", "trackers")}
        if where["accelerator"] is not None:
            chosen["device"] = None
        return run_continual(entry.name, stream, model=model, hyper=options["set"], **chosen, **where)

    return run


def show(console: Console, history: Any, out: Path) -> None:
    """Print the accuracy matrix and the summary of a finished run."""
    console.print(tables.accuracy_matrix(history.accuracy_matrix, f"{history.method} · {history.scenario}"))
    rows = [(name.replace("_", " "), tables.percent(value)) for name, value in history.summary().items()]
    rows.append(("seconds", f"{sum(history.seconds):.1f}"))
    cost = {name: f"{value:,.{1 if value < 100 else 0}f}" for name, value in history.cost().items()}
    rows += [(name.replace("_", " "), value) for name, value in cost.items()]
    console.print(tables.plain("Summary", ("", ""), rows))
    console.print(f"Saved in {out}; the page is {out / runs.PAGE}.", highlight=False, soft_wrap=True)
