"""The HTML page of each kind of run, built from what the run saved and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import CheckpointError
from . import demo, html, plots, runs
from .tables import milliseconds, percent

PAGE = "report.html"
RESULTS = {"demo": "demo.json", "train": "history.json", "cluster": "summary.json"}
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
    page = {"demo": demo_page, "train": train_page, "cluster": cluster_page}[kind]
    try:
        text = page(record, results)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / RESULTS[kind]}: a value is missing or of the wrong kind ({error!r})."
        ) from error
    with runs.whole_file(folder / PAGE) as stream:
        stream.write(text.encode())
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


def train_page(record: Mapping[str, Any], history: Mapping[str, Any]) -> str:
    """The page of `pyfast-mmcl train`."""
    options = record["options"]
    summary = _summary(history)
    cards = [(percent(summary[name]), name.replace("_", " ")) for name in HEADLINES if name in summary]
    rows = [(name.replace("_", " "), value) for name, value in options.items() if value not in (None, {}, [])]
    tasks = [
        (name, f"{seconds:.2f}", f"{kept / 2**20:.2f}")
        for name, seconds, kept in zip(history["tasks"], history["seconds"], history["kept_bytes"], strict=True)
    ]
    sections = [
        html.cards(cards),
        html.section("Accuracy", *continual_blocks({history["method"]: history})),
        html.section("Loss", html.figure(plots.losses(_terms(history)), "losses", "Mean of each term per epoch.")),
        html.section("Cost", html.table(("task", "seconds (timing)", "kept between tasks, MiB"), tasks)),
        html.section("Options", html.table(("option", "value"), rows)),
    ]
    lead = f"{history['method']} on {options['stream']}, {history['scenario']}, {len(history['tasks'])} tasks."
    return html.page(f"Training run: {history['method']}", lead, sections, _footer(record))


def cluster_page(record: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The page of `pyfast-mmcl cluster`."""
    options = record["options"]
    scores = [(f"{value:.3f}", name) for name, value in summary.get("scores", {}).items()]
    cards = [(f"{summary['rows']:,}", "rows"), (f"{summary['clusters']:,}", "clusters"), *scores]
    sizes = np.asarray(summary["sizes"])
    caption = f"From {sizes.min():,} to {sizes.max():,} rows; the mean is {sizes.mean():,.1f}."
    rows = [(name, value) for name, value in options.items() if value not in (None, {}, [])]
    rows += [(name, summary[name]) for name in ("inertia", "n_iter", "seconds") if name in summary]
    sections = [
        html.cards(cards),
        html.section("Cluster sizes", html.figure(plots.cluster_sizes(sizes), "sizes", caption)),
        html.section("Options and results", html.table(("name", "value"), rows)),
    ]
    lead = f"{options['method']} on {options['data']}: {summary['rows']:,} rows × {summary['features']} features."
    return html.page(f"Clustering: {options['method']}, K = {options['k']}", lead, sections, _footer(record))


def continual_blocks(histories: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Summary table and drawings of one or several continual-learning histories."""
    matrices = {name: _matrix(history) for name, history in histories.items()}
    summaries = {name: _summary(history) for name, history in histories.items()}
    rows = [(name, *(percent(s[key]) for key in HEADLINES)) for name, s in summaries.items()]
    columns = ("method", *(key.replace("_", " ") for key in HEADLINES))
    averages = {name: [float(np.mean(m[i, : i + 1])) for i in range(len(m))] for name, m in matrices.items()}
    forgotten = {name: 100 * _forgetting(m) for name, m in matrices.items()}
    groups = [f"task {j + 1}" for j in range(len(next(iter(forgotten.values()))))]
    heat = (
        "Accuracy (%) on each task after learning each task. The diagonal is what was just learnt; the cells below "
        "it show what is left of it later; those above it are tasks not yet seen."
    )
    drawings = [html.figure(plots.accuracy_curves(averages), "curves", "Mean accuracy over the tasks seen so far.")]
    if groups:
        bars = plots.bars(forgotten, groups, y="forgotten (points)")
        drawings.append(html.figure(bars, "forgetting", "Best accuracy ever minus final accuracy, per task."))
    return [
        html.table(columns, rows) if len(rows) > 1 else "",
        html.figure(plots.accuracy_matrices(matrices), "matrices", heat),
        html.row(*drawings),
    ]


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


def _summary(history: Mapping[str, Any]) -> dict[str, float]:
    if "summary" in history:
        return history["summary"]
    from ..train import History

    return History.from_dict(dict(history)).summary()


def _forgetting(matrix: np.ndarray) -> np.ndarray:
    """max over i in [j, T − 2] of A[i, j], minus A[T − 1, j], for every task j but the last: [T − 1]."""
    last = len(matrix) - 1
    return np.array([matrix[j:last, j].max() - matrix[last, j] for j in range(last)])


def _terms(history: Mapping[str, Any]) -> dict[str, list[float]]:
    names = list(dict.fromkeys(name for epoch in history["losses"] for name in epoch["terms"]))
    return {name: [epoch["terms"].get(name, np.nan) for epoch in history["losses"]] for name in names}


def _footer(record: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    seed = record["options"].get("seed")
    return f"{versions}; seed {seed}."
