"""The page of one clustering run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import CheckpointError
from . import blocks, chart, cluster_blocks, html, plots
from .cluster_run import MONTAGE, MONTAGE_ROWS, MOST_CLUSTERS, PLACE_ROWS, PLACES, TRUTH
from .collect import show

_WORDS = {
    "silhouette": "silhouette of a sample: 1 far from other clusters, 0 between them",
    "balance": "balance: entropy of the sizes as a share of its largest value, log K",
}


def cluster_page(record: Mapping[str, Any], summary: Mapping[str, Any], folder: Path) -> str:
    """The page of `pyfast-mmcl cluster`, from what the run left in ``folder``."""
    options = record["options"]
    sizes = np.asarray(summary["sizes"])
    sections = [
        html.cards(_cards(summary)),
        html.section("Clusters", *_clusters(summary, sizes)),
        *_confusion(summary),
        *_montage(folder, sizes, summary),
        *_projection(folder, options, summary),
        *_losses(summary),
        html.section("Options and results", *map(html.paragraph, summary.get("notes", ())), _options(options, summary)),
    ]
    lead = f"{options['method']} on {options['data']}: {summary['rows']:,} rows × {summary['features']} features."
    if options.get("predict"):
        lead += f" Labelled by the model of {options['predict']}."
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    title = f"Clustering: {options['method']}, K = {len(sizes)}"
    return html.page(title, lead, sections, f"{versions}; seed {options.get('seed')}.")


def _cards(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = [(f"{summary['rows']:,}", "rows"), (f"{summary['clusters']:,}", "clusters with rows")]
    shown += [(f"{value:.3f}", name) for name, value in summary.get("scores", {}).items()]
    shown += [(f"{summary[name]:.3f}", name) for name in _WORDS if summary.get(name) is not None]
    return shown


def _clusters(summary: Mapping[str, Any], sizes: np.ndarray) -> list[str]:
    caption = f"From {sizes.min():,} to {sizes.max():,} rows; the mean is {sizes.mean():,.1f}."
    words = "; ".join(word for name, word in _WORDS.items() if summary.get(name) is not None)
    drawing = html.figure(plots.cluster_sizes(sizes), "sizes", caption)
    order = np.argsort(-sizes, kind="stable")[:MOST_CLUSTERS]
    each = summary.get("silhouettes") or [None] * len(sizes)
    names = _names(summary, len(sizes))
    rows = [
        (names[k], f"{sizes[k]:,}", f"{100 * sizes[k] / sizes.sum():.1f}", "–" if each[k] is None else f"{each[k]:.3f}")
        for k in order
    ]
    more = f" (the {len(rows)} largest)" if len(rows) < len(sizes) else ""
    each_cluster = html.table(("cluster", "rows", "%", "silhouette"), rows, caption=f"Clusters by size{more}")
    said = [html.paragraph(words[0].upper() + words[1:] + ".")] if words else []
    return [*said, html.row(drawing, each_cluster)]


def _names(summary: Mapping[str, Any], K: int) -> list[str]:
    """What the clusters are called: their numbers, and names where the method gives some."""
    return [f"{k}: {name}" if name else str(k) for k, name in enumerate(summary.get("names") or [""] * K)]


def _confusion(summary: Mapping[str, Any]) -> list[str]:
    confusion = summary.get("confusion")
    if confusion is None:
        return []
    words = (
        "How the rows of each class (lines) are spread over the clusters (columns), coloured by their share of the "
        "class. Pairs that the best one-to-one naming matches stand on the diagonal."
    )
    classes, clusters = confusion["left_out"]
    if classes or clusters:
        words += f" {classes:,} smaller classes and {clusters:,} smaller clusters are left out."
    return [html.section("Classes and clusters", html.paragraph(words), cluster_blocks.confusion_map(confusion))]


def _montage(folder: Path, sizes: np.ndarray, summary: Mapping[str, Any]) -> list[str]:
    if not (folder / MONTAGE).exists():
        return []
    images, rows = _load(folder / MONTAGE), _load(folder / MONTAGE_ROWS)
    labels = _load(folder / "labels.npy")
    clusters = [int(labels[row[0]]) for row in rows]
    names = [_names(summary, len(sizes))[k] for k in clusters]
    words = "Of each cluster the images nearest its centre, or most certain to belong to it where there is no centre."
    if len(clusters) < int((sizes > 0).sum()):
        words += f" The {len(clusters)} largest clusters are shown."
    shown = cluster_blocks.montage_table(images, rows, names, [int(sizes[k]) for k in clusters])
    return [html.section("Typical images", html.paragraph(words), shown)]


def _projection(folder: Path, options: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    if not (folder / PLACES).exists():
        return []
    places, rows = _load(folder / PLACES), _load(folder / PLACE_ROWS)
    how = "t-SNE" if options.get("projection") == "tsne" else "the two directions of most variance"
    labels, confusion = _load(folder / "labels.npy")[rows], summary.get("confusion")
    # In the order of the confusion: a class and the cluster that is matched to it look the same.
    names = _commonest(labels) if confusion is None else list(map(str, confusion["clusters"]))
    drawn = [_cloud(places, labels, names, f"{len(rows):,} rows by {how}, marked by cluster")]
    if confusion is not None:
        classes = _load(folder / TRUTH)[rows]
        drawn.append(_cloud(places, classes, confusion["classes"], "The same rows, marked by class"))
    return [html.section("In the plane", f'<div class="charts">{"".join(drawn)}</div>')]


def _commonest(labels: np.ndarray) -> list[str]:
    found, counts = np.unique(labels, return_counts=True)
    return [str(name) for name in found[np.sort(np.argsort(-counts, kind="stable")[:MOST_CLUSTERS])]]


def _cloud(places: np.ndarray, labels: np.ndarray, names: Sequence[str], caption: str) -> str:
    """Places with a mark for each name; rows of other labels are left out, which is said."""
    words = labels.astype(str)
    others = int(np.isin(words, names, invert=True).sum())
    caption += f"; {others:,} rows of smaller groups are left out." if others else "."
    looks = chart.marks(names)
    drawing = cluster_blocks.cloud(places, words, looks, f"{caption} {len(names)} groups")
    return f"<div>{blocks.figure(drawing, caption)}{chart.legend(looks)}</div>"


def _losses(summary: Mapping[str, Any]) -> list[str]:
    """One chart per phase of the training of a deep method."""
    history = summary.get("history") or []
    drawn = []
    for phase in dict.fromkeys(epoch["phase"] for epoch in history):
        epochs = [epoch["terms"] for epoch in history if epoch["phase"] == phase]
        names = list(dict.fromkeys(name for terms in epochs for name in terms))
        if not names:
            continue
        none = [np.nan] * len(epochs)
        series = {name: chart.Line([terms.get(name, np.nan) for terms in epochs], none, none) for name in names}
        looks = chart.marks(names)
        ends = ", ".join(f"{name} ends at {line.values[-1]:.3g}" for name, line in series.items())
        drawing = chart.lines(series, looks, x="epoch", y="loss term", alt=f"Phase {phase}: {ends}")
        caption = f"{phase}: mean of each term over the steps of an epoch."
        drawn.append(f"<div>{blocks.figure(drawing, caption)}{chart.legend(looks)}</div>")
    return [html.section("Losses", f'<div class="charts">{"".join(drawn)}</div>')] if drawn else []


def _options(options: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    named = {name: value for name, value in options.items() if value not in (None, {}, [], False)}
    rows: list[Sequence[object]] = [(name, show(value)) for name, value in named.items()]
    rows += [(name, summary[name]) for name in ("inertia", "n_iter", "seconds") if name in summary]
    return html.table(("name", "value"), rows, left=(1,))


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); run the clustering again.") from error
