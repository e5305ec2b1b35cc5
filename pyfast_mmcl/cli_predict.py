"""`pyfast-mmcl cluster --predict RUN`: new rows are labelled by the model of an earlier clustering."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ._errors import InputError
from .cli_cluster import DEFAULTS, EMBEDDINGS, MODEL, SUMMARY, describe, finished, write_results
from .cli_cluster_rows import open_data, parse_shape, read_truth
from .cli_errors import on_interrupt
from .report import pages, runs, tables

# Options that belong to the rows: those of the run hold where the command line names no others.
_OF_THE_ROWS = ("key", "columns", "image_shape", "image_size", "encoder", "pretrained", "weights", "threads")
# Rows of another encoder may have the same width, and no meaning for the model.
_OF_THE_SPACE = ("encoder", "pretrained", "weights")
_OF_THE_FIT = ("method", "k", "seed", "precision", "set")


def predict(data: Path, given: Mapping[str, Any], run: Path, out: Path) -> None:
    """Label ``data`` with the model that ``pyfast-mmcl cluster`` left in the folder ``run``, into the new ``out``.

    Pictures and images are read and encoded as they were for the run. Raises InputError for options of a fit and for
    rows that the model does not take, CheckpointError for a folder that is no finished clustering.
    """
    options = _options(data, given, run)
    from .clustering.saving import load_estimator

    model = load_estimator(run / MODEL, device=options["device"])
    images = bool(getattr(type(model), "takes_images", False))
    console = Console()
    with (
        on_interrupt(f"interrupted; nothing was written to {out}, run the same command again."),
        runs.new_folder(out) as folder,
    ):
        opened = open_data(data, options, images=images, kept=folder / EMBEDDINGS)
        truth = read_truth(options["truth"], opened, len(opened))
        console.print(f"{data}: {len(opened):,} rows × {opened.shape}, {opened.how}.", highlight=False, soft_wrap=True)
        if not hasattr(model, "predict"):
            raise InputError(f"{options['method']} labels no new rows; choose the run of a method that does.")
        start = time.perf_counter()
        labels = np.asarray(model.predict(opened.X))
        write_results(folder, finished(model, opened, labels, time.perf_counter() - start), opened, truth, options)
        runs.write_record(folder, "cluster", options)
        pages.build(folder)
    summary = runs.read_json(out / SUMMARY)
    console.print(tables.plain(f"{options['method']} of {run}", ("", ""), describe(summary)))
    console.print(f"Saved in {out}; the page is {out / runs.PAGE}.", highlight=False, soft_wrap=True)


def _options(data: Path, given: Mapping[str, Any], run: Path) -> dict[str, Any]:
    record = runs.read_record(run)
    if record["kind"] != "cluster":
        raise InputError(f"{run} holds a {record['kind']} run, not a clustering; choose another for --predict.")
    named = {name: value for name, value in given.items() if value is not None and value not in ({}, [])}
    for name in _OF_THE_FIT:
        if name in named:
            raise InputError(f"--predict uses the model as it was fitted; leave --{name} out.")
    if "image_shape" in named:
        named["image_shape"] = parse_shape(named["image_shape"])
    before = {**DEFAULTS, **record["options"]}
    for name in _OF_THE_SPACE if before["encoder"] or before["weights"] else ():
        if name in named and named[name] != before[name]:
            raise InputError(
                f"{run} was clustered with --{name} {before[name]}, got {named[name]}, whose embeddings its model does "
                "not know; leave the option out."
            )
    kept = {name: before[name] for name in (*_OF_THE_ROWS, "method", "k", "seed", "set")}
    return {**DEFAULTS, **kept, **named, "data": str(data), "predict": str(run)}
