"""The HTML page of each kind of run, built from what the run saved and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import CheckpointError
from ..metrics.continual import accuracy_after_each, forgetting_after_each
from . import blocks, chart, demo, html, plots, runs
from .cluster_page import cluster_page
from .heat import heat_map
from .runs import PAGE, RESULTS
from .tables import milliseconds, percent
from .train_page import train_page

HEADLINES = ("last_accuracy", "forgetting", "backward_transfer", "forward_transfer")


def build(folder: Path) -> Path:
    """Write report.html into a run's folder and return its path.

    Raises CheckpointError when the folder is not a finished run of this version or its files are damaged.
    """
    record = runs.read_record(folder)
    kind = record["kind"]
    if kind not in RESULTS:
        raise CheckpointError(f"{folder}: unknown kind of run {kind!r}; known: {', '.join(RESULTS)}.")
    if not (folder / RESULTS[kind]).exists():
        raise CheckpointError(
            f"{folder}: the {kind} run is not finished ({RESULTS[kind]} is missing); finish it first."
        )
    results = runs.read_json(folder / RESULTS[kind])
    drawn: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]] = {
        "demo": demo_page,
        "train": train_page,
        "cluster": partial(cluster_page, folder=folder),
    }
    try:
        text = drawn[kind](record, results)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / RESULTS[kind]}: a value is missing or of the wrong kind ({error!r})."
        ) from error
    with runs.whole_file(folder / PAGE) as stream:
        # Names of files may hold bytes that are no text.
        stream.write(text.encode("utf-8", "backslashreplace"))
    return folder / PAGE


def demo_page(record: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The page of `pyfast-mmcl demo`."""
    er = results["continual"]["er"]["summary"]
    clusters, neighbors = results["clustering"], results["classification"]
    lead = (
        "scikit-learn's handwritten digits: images with captions learnt two classes at a time, then the images "
        "clustered and searched. Every number except the timings is the same on every run."
    )
    sections = [
        html.cards(
            [
                (percent(er["last_accuracy"]), "mean accuracy after the last task, with replay (er)"),
                (percent(clusters["acc"]), "clustering accuracy, no labels used"),
                (percent(neighbors["accuracy"]), f"{neighbors['neighbors']}-nearest-neighbour accuracy"),
            ]
        ),
        html.section(
            "Continual learning: image + text, five tasks of two digits", *continual_blocks(results["continual"])
        ),
        html.section("Clustering: k-means on the images", *_clustering_blocks(clusters)),
        html.section("Search: nearest neighbours vote", *_classification_blocks(neighbors)),
        html.section("Speed of the search", *_speed_blocks(results["speed"])),
    ]
    return html.page("pyfast_mmcl demo", lead, sections, _footer(record))


def continual_blocks(histories: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Summary table, heat maps and drawings of the methods of the demo."""
    matrices = {name: _matrix(history) for name, history in histories.items()}
    rows = [(name, *(percent(h["summary"][key]) for key in HEADLINES)) for name, h in histories.items()]
    columns = ("method", *(key.replace("_", " ") for key in HEADLINES))
    looks = chart.marks(list(histories))
    seen = {name: _line(accuracy_after_each(matrix)) for name, matrix in matrices.items()}
    lost = {name: _line(forgetting_after_each(matrix)) for name, matrix in matrices.items()}
    heat = (
        "Accuracy (%) on each task (columns) after learning each task (rows). The framed cell is what was just learnt; "
        "the cells below it show what is left of it later; those in italics are tasks not yet seen."
    )
    maps = "".join(heat_map(name, m, names=histories[name]["tasks"]) for name, m in matrices.items())
    accuracy = chart.lines(seen, looks, x="tasks learnt", y="accuracy, tasks seen (%)", alt=_ends("Accuracy", seen))
    forgetting = chart.lines(lost, looks, x="tasks learnt", y="forgetting (points)", alt=_ends("Forgetting", lost))
    return [
        html.table(columns, rows),
        html.paragraph(heat),
        f'<div class="heats">{maps}</div>',
        chart.legend(looks),
        blocks.charts(
            [
                blocks.figure(accuracy, "Mean accuracy over the tasks seen so far."),
                blocks.figure(forgetting, "Best accuracy before minus accuracy now, mean over earlier tasks."),
            ]
        ),
    ]


def _line(values: np.ndarray) -> chart.Line:
    none = [np.nan] * len(values)
    return chart.Line((100 * values).tolist(), none, none)


def _ends(what: str, series: Mapping[str, chart.Line]) -> str:
    return f"{what}: " + "; ".join(f"{name} ends at {line.values[-1]:.1f}" for name, line in series.items())


def _clustering_blocks(results: Mapping[str, Any]) -> list[str]:
    images, _ = demo.digits()
    tiles = np.stack(
        [
            np.vstack([np.asarray(center)[None], images[members]])
            for center, members in zip(results["centers"], _even(results["members"]), strict=True)
        ]
    ).reshape(demo.N_CLASSES, -1, 8, 8)
    counts = np.asarray(results["counts"])
    scores = html.cards(
        [
            (f"{results[key]:.3f}", name)
            for key, name in (("acc", "ACC, Hungarian matching"), ("nmi", "NMI"), ("ari", "ARI"))
        ]
    )
    names = [str(k) for k in range(demo.N_CLASSES)]
    montage = plots.montage(tiles, row_names=names, first="centre", rest="rows of the cluster")
    return [
        scores,
        html.row(
            html.figure(montage, "montage", "Each cluster's centre, and the first images that fell into it."),
            html.figure(
                plots.confusion(counts, x="cluster", y="digit"),
                "clusters",
                "How many images of each digit fell into each cluster; clusters sorted by their main digit.",
            ),
        ),
    ]


def _even(members: Sequence[Sequence[int]]) -> list[list[int]]:
    """The same number of members for every cluster; a short list repeats its last entry."""
    longest = max(len(m) for m in members)
    return [[*m, *[m[-1]] * (longest - len(m))] for m in members]


def _classification_blocks(results: Mapping[str, Any]) -> list[str]:
    text = (
        f"{results['test']} images are each given the commonest class among their {results['neighbors']} nearest of "
        f"{results['bank']} labelled images: {percent(results['accuracy'], 2)} are right."
    )
    counts = np.asarray(results["counts"])
    drawing = plots.confusion(counts, x="predicted digit", y="digit")
    return [html.paragraph(text), html.figure(drawing, "votes", "Test images by true and predicted digit.")]


def _speed_blocks(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    rows, bars = [], []
    for case in cases:
        shape = " · ".join(f"{name}={case[name]:,}" for name in "NMDk")
        if case["seconds"] is None:
            rows.append((case["name"], shape, "–", "–", "answers disagree: not timed"))
            continue
        ours, torch = case["seconds"]["ours"], case["seconds"]["torch"]
        rows.append((case["name"], shape, milliseconds(ours), milliseconds(torch), f"{torch / ours:.2f}×"))
        bars += [(f"{case['name']}: pyfast_mmcl", ours), (f"{case['name']}: torch mm + topk", torch)]
    columns = ("rows", "shape", "pyfast_mmcl", "torch mm + topk", "torch ÷ ours")
    text = (
        "Timings of this machine at this moment: the median of "
        f"{cases[0]['rounds']} interleaved calls, after both answers agreed. `pyfast-mmcl bench` compares more."
    )
    ours = [name for name, _ in bars if name.endswith("pyfast_mmcl")]
    drawing = html.figure(plots.speed_bars(bars, ours=ours), "speed", "Timings; shorter is faster.") if bars else ""
    return [html.paragraph(text), html.table(columns, rows, left=(1,)), drawing]


def _matrix(history: Mapping[str, Any]) -> np.ndarray:
    """The accuracy matrix [T, T]; JSON's null is NaN."""
    return np.array([[np.nan if v is None else v for v in row] for row in history["accuracy"]], dtype=np.float64)


def _footer(record: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    seed = record["options"].get("seed")
    return f"{versions}; seed {seed}."
