"""`pyfast-mmcl cluster`: rows or pictures in; labels, soft assignments, the model, a summary and its page out."""

from __future__ import annotations

import inspect
import shlex
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ._errors import InputError
from .cli_cluster_rows import Opened, open_data, parse_shape, read_truth
from .cli_errors import on_interrupt, say
from .report import cluster_run, pages, runs, tables

SUMMARY = "summary.json"
MODEL, CHECKPOINTS, EMBEDDINGS = "model", "checkpoints", "embeddings.npy"

# What the options mean where neither the command line nor the run being resumed names them.
DEFAULTS: dict[str, Any] = {
    "method": "kmeans",
    "k": None,
    "seed": 0,
    "key": [],
    "columns": [],
    "truth": None,
    "image_shape": None,
    "image_size": 32,
    "skip_broken": False,
    "encoder": None,
    "pretrained": None,
    "weights": None,
    "device": None,
    "threads": 1,
    "precision": None,
    "projection": "pca",
    "set": {},
}


def cluster(
    data: Path, given: Mapping[str, Any], out: Path, *, resume: bool = False, checkpoint_every: int | None = None
) -> None:
    """Cluster ``data`` by one method and write everything about it into ``out``.

    given: the options named on the command line; None means not named.
    out: a new folder; a method that trains a network keeps checkpoints there and goes on from them with ``resume``.

    Raises InputError for unknown names and unusable values or files, more clusters than rows, an occupied ``out``;
    CheckpointError for a damaged or foreign one; OSError for what cannot be read or written.
    """
    options = _options(data, given, out, resume)
    if options is None:
        Console().print(f"{out} is finished; nothing is left to resume.", highlight=False, soft_wrap=True)
        return
    model, deep, images = build(options)
    if not deep and (resume or checkpoint_every is not None):
        raise InputError(f"{options['method']} trains no network and has no checkpoints; leave --resume out.")
    processes = _processes(options, deep)
    main = processes is None or processes.is_main_process
    console = Console(quiet=not main)
    with _place(out, options, deep=deep, main=main) as folder:
        opened = open_data(data, options, images=images, kept=folder / EMBEDDINGS)
        truth = read_truth(options["truth"], opened, len(opened))
        console.print(f"{data}: {len(opened):,} rows × {opened.shape}, {opened.how}.", highlight=False, soft_wrap=True)
        start = time.perf_counter()
        if deep:
            model.training = _training(options, folder, checkpoint_every, processes)
        with _said_warnings():
            labels = _array(model.fit(_placed(opened.X, options, deep)).labels_)
        if not main:
            return
        done = finished(model, opened, labels, time.perf_counter() - start)
        _write(folder, done, opened, truth, options)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    _say(console, options["method"], out)


def build(options: Mapping[str, Any]) -> tuple[Any, bool, bool]:
    """The estimator that the options describe, whether it trains a network, and whether it takes images."""
    from .clustering.deep import DeepEstimator
    from .train.registry import get_estimator

    entry = get_estimator(options["method"])
    known = inspect.signature(entry.target).parameters
    for taken, option in (("n_clusters", "--k"), ("random_state", "--seed"), ("training", "--device and its like")):
        if taken in options["set"]:
            raise InputError(f"--set {taken} has an option of its own; use {option}.")
    if options["k"] is None:
        raise InputError("how many clusters? Give --k NUMBER, or --auto-k to have the number found.")
    deep = isinstance(entry.target, type) and issubclass(entry.target, DeepEstimator)
    if options["precision"] is not None and not deep:
        raise InputError(f"--precision is for methods that train a network, and {entry.name} does not; leave it out.")
    fixed = {"n_clusters": options["k"], "random_state": options["seed"]}
    model = entry.build(**{name: value for name, value in fixed.items() if name in known}, **options["set"])
    return model, deep, bool(getattr(entry.target, "takes_images", False))


def finished(model: Any, opened: Opened, labels: np.ndarray, seconds: float) -> cluster_run.Clustered:
    """The clustering with its soft assignments, where the method has them."""
    soft = _array(model.predict_proba(opened.X)) if hasattr(model, "predict_proba") else None
    return cluster_run.Clustered(model, opened.X, labels, soft, seconds)


def parse_k(text: str | None, auto: bool) -> int | str | None:
    """`--k`: a number, or the name of a criterion by which it is found; `--auto-k` is `--k auto`."""
    if auto and text is not None:
        raise InputError(f"--k {text} and --auto-k contradict each other; give one of them.")
    if text is None:
        return "auto" if auto else None
    try:
        return int(text)
    except ValueError:
        return text


def _options(data: Path, given: Mapping[str, Any], out: Path, resume: bool) -> dict[str, Any] | None:
    """The options of the run; None where the run to resume is finished."""
    named = {name: value for name, value in given.items() if value is not None and value not in ({}, [])}
    named["data"] = str(data)
    if "image_shape" in named:
        named["image_shape"] = parse_shape(named["image_shape"])
    if not runs.occupied(out):
        return {**DEFAULTS, **named}
    if not resume:
        raise InputError(f"{out} exists already; choose another --out or remove it (--resume continues a training).")
    record = runs.read_record(out)
    if record["kind"] != "cluster":
        raise InputError(f"{out} holds a {record['kind']} run, not a clustering; choose another --out.")
    options = {**DEFAULTS, **record["options"]}
    for name, value in named.items():
        if options.get(name) != value:
            raise InputError(
                f"{out} was started with {name}={options.get(name)}, got {value}; leave the option out to resume it, "
                "or choose another --out."
            )
    return None if (out / SUMMARY).exists() else options


@contextmanager
def _place(out: Path, options: Mapping[str, Any], *, deep: bool, main: bool) -> Iterator[Path]:
    """The folder to write to: one that survives a kill for a training, else one that appears when all is done."""
    if not deep:
        stop = f"interrupted; nothing was written to {out}, run the same command again."
        with on_interrupt(stop), runs.new_folder(out) as folder:
            yield folder
            runs.write_record(folder, "cluster", dict(options))
            pages.build(folder)
        return
    again = f"pyfast-mmcl cluster {shlex.quote(options['data'])} --resume --out {shlex.quote(str(out))}"
    claim = runs.claimed(out, "cluster", dict(options)) if main else nullcontext()
    with claim, on_interrupt(f"interrupted; continue from the last checkpoint: {again}"):
        yield out
        if main:
            pages.build(out)


def _processes(options: Mapping[str, Any], deep: bool) -> Any:
    """The processes that a launcher started this one with, for methods that train a network."""
    from .cli_learner import launched

    processes = launched(options["device"])
    if processes is not None:
        if not deep:
            raise InputError(f"{options['method']} runs in one process here; start it without a launcher.")
        # All have looked into the folder before the first writes to it.
        processes.wait_for_everyone()
    return processes


def _training(options: Mapping[str, Any], folder: Path, every: int | None, processes: Any) -> Any:
    from .clustering.deep import Training

    return Training(
        device=str(processes.device) if processes is not None else options["device"],
        threads=options["threads"] or None,
        precision=options["precision"] or "no",
        checkpoint_dir=folder / CHECKPOINTS,
        checkpoint_every=every,
        resume=True,
        progress=True,
        accelerator=processes,
    )


@contextmanager
def _said_warnings() -> Iterator[None]:
    """Warnings of a fit in one line each, without the line of code that they come from."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        say(f"note: {text}")


def _placed(X: Any, options: Mapping[str, Any], deep: bool) -> Any:
    """Rows on the device that was asked for, where the method computes where they lie."""
    if deep or options["device"] in (None, "cpu"):
        return X
    import torch

    from .train.isolate import choose_device

    place = choose_device(options["device"])
    if isinstance(X, dict):
        return {name: torch.as_tensor(np.asarray(view)).to(place) for name, view in X.items()}
    return torch.as_tensor(np.asarray(X)).to(place)


def _write(
    folder: Path, done: cluster_run.Clustered, opened: Opened, truth: np.ndarray | None, options: Mapping[str, Any]
) -> None:
    from .clustering.saving import save_estimator

    save_estimator(done.model, folder / MODEL)
    write_results(folder, done, opened, truth, options)


def write_results(
    folder: Path, done: cluster_run.Clustered, opened: Opened, truth: np.ndarray | None, options: Mapping[str, Any]
) -> None:
    """Everything but the model and the page."""
    how = {"projection": options["projection"], "seed": options["seed"]}
    summary = cluster_run.write(
        folder, done, truth=truth, files=opened.files, skipped=opened.skipped, tiles=opened.tiles, **how
    )
    for note in summary.get("notes", ()):
        say(f"note: {note}")


def _say(console: Console, method: str, out: Path) -> None:
    summary = runs.read_json(out / SUMMARY)
    console.print(tables.plain(f"{method}, K = {len(summary['sizes'])}", ("", ""), describe(summary)))
    console.print(f"Saved in {out}; the page is {out / runs.PAGE}.", highlight=False, soft_wrap=True)


def describe(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The summary as (name, value) rows for a table."""
    rows = [
        ("rows × features", f"{summary['rows']:,} × {summary['features']}"),
        ("clusters", f"{summary['clusters']:,}"),
        ("smallest, largest", f"{summary['smallest']:,}, {summary['largest']:,} rows"),
        ("balance", f"{summary['balance']:.4f}"),
    ]
    if summary["silhouette"] is not None:
        rows.append(("silhouette", f"{summary['silhouette']:.4f}"))
    if "inertia" in summary:
        rows.append(("inertia", f"{summary['inertia']:.6g}"))
    if "n_iter" in summary:
        rows.append(("iterations", str(summary["n_iter"])))
    rows += [(name, f"{value:.4f}") for name, value in summary.get("scores", {}).items()]
    return [*rows, ("seconds", f"{summary['seconds']:.2f}")]


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
