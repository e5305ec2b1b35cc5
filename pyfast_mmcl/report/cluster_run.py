"""What a clustering run leaves in its folder: labels, soft assignments, scores, and what its page is drawn from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..clustering.deep import DeepEstimator
from ..clustering.views import join_views
from ..metrics.clustering import ari, cluster_balance, clustering_accuracy, contingency, nmi, purity
from ..metrics.silhouette import sample_rows, silhouette_of_rows
from . import export, runs
from .projection import project

SAMPLE = 2000  # rows of the projection and of the silhouette
TILES = 10  # images shown of a cluster
MOST_CLUSTERS = 40  # clusters and classes that tables and montages show
_MOST_BYTES = 2**31  # of soft assignments on the disk
_BLOCK = 2**23  # numbers of one block of distances
# Files beside summary.json and labels.npy.
PROBABILITIES, CENTERS, ASSIGNMENTS = "probabilities.npy", "centers.npy", "assignments.csv"
PLACES, PLACE_ROWS = "projection.npy", "projection_rows.npy"
MONTAGE, MONTAGE_ROWS = "montage.npy", "montage_rows.npy"
TRUTH = "truth.npy"


@dataclass(frozen=True)
class Clustered:
    """A finished clustering: the estimator, its rows X, their labels [N] and soft assignments [N, K], seconds taken."""

    model: Any
    X: Any
    labels: np.ndarray
    soft: np.ndarray | None
    seconds: float

    @property
    def n_clusters(self) -> int:
        """K: clusters asked for or found, empty ones included."""
        return max(operator.index(self.model.n_clusters_), int(self.labels.max()) + 1)


def write(
    folder: Path,
    done: Clustered,
    *,
    truth: np.ndarray | None = None,
    files: Sequence[str] = (),
    skipped: Sequence[str] = (),
    tiles: Callable[[np.ndarray], np.ndarray] | None = None,
    projection: str = "pca",
    seed: int = 0,
) -> dict[str, Any]:
    """Write everything but the model and the page; returns the summary, which is written last.

    labels.npy           int64 [N]
    probabilities.npy    float32 [N, K] where the method has soft assignments (above 2 GiB a note says so)
    centers.npy          [K, …] where the method has centres
    truth.npy            classes [N] where they are known
    assignments.csv      picture, cluster; then the pictures that were skipped, in no cluster
    projection*.npy      places [S, 2] in the plane of S rows, and their numbers
    montage*.npy         images uint8 [K', m, C, H, W] nearest each centre, and their rows (−1 where there are fewer)
    summary.json         sizes, scores, confusion, history
    """
    runs.write_array(folder / "labels.npy", done.labels)
    notes = []
    if done.soft is not None and 4 * done.soft.size <= _MOST_BYTES:
        runs.write_array(folder / PROBABILITIES, done.soft.astype(np.float32))
    elif done.soft is not None:
        notes.append(
            f"{PROBABILITIES} was not written: its {done.soft.size:,} numbers take more than {_MOST_BYTES:,} bytes; "
            "load the model and call predict_proba on parts of the rows."
        )
    centers = getattr(done.model, "cluster_centers_", None)
    if centers is not None:
        runs.write_array(folder / CENTERS, _array(centers))
    if truth is not None:
        runs.write_array(folder / TRUTH, truth)
    if files:
        text = export.write_rows(
            ("file", "cluster"), [*zip(files, done.labels.tolist(), strict=True), *((name, "") for name in skipped)]
        )
        with runs.whole_file(folder / ASSIGNMENTS) as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
    if skipped:
        many = f"{len(skipped)} broken pictures were left out; the last lines of {ASSIGNMENTS} name them."
        one = f"1 broken picture was left out; the last line of {ASSIGNMENTS} names it."
        notes.append(one if len(skipped) == 1 else many)
    rows = sample_rows(len(done.labels), SAMPLE, seed)
    points = space(done, rows)
    if projection != "none":
        runs.write_array(folder / PLACES, project(points, projection, seed))
        runs.write_array(folder / PLACE_ROWS, rows)
    if tiles is not None:
        chosen = largest_clusters(done.labels)
        near = typical_rows(done, chosen)
        runs.write_array(folder / MONTAGE, montage(near, tiles))
        runs.write_array(folder / MONTAGE_ROWS, near)
    summary = {**summarise(done, rows, points, truth), **({"notes": notes} if notes else {})}
    runs.write_json(folder / runs.RESULTS["cluster"], summary)
    return summary


def summarise(done: Clustered, rows: np.ndarray, points: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
    """Sizes, scores and history as JSON; ``points`` [S, d] are the sampled ``rows`` in the space that is clustered."""
    sizes = np.bincount(done.labels, minlength=done.n_clusters)
    summary: dict[str, Any] = {
        "rows": len(done.labels),
        "features": operator.index(done.model.n_features_in_),
        "clusters": int((sizes > 0).sum()),
        "smallest": int(sizes.min()),
        "largest": int(sizes.max()),
        "sizes": sizes.tolist(),
        "balance": cluster_balance(done.labels, done.n_clusters),
        "seconds": round(done.seconds, 3),
        **_silhouettes(points, done.labels[rows], done.n_clusters),
    }
    for name in ("inertia_", "n_iter_"):
        if hasattr(done.model, name):
            summary[name.rstrip("_")] = getattr(done.model, name)
    if isinstance(done.model, DeepEstimator):
        summary["history"] = done.model.history_
    if hasattr(done.model, "cluster_names"):
        summary["names"] = [", ".join(words) for words in done.model.cluster_names()]
    if truth is not None:
        pair = truth, done.labels
        summary["scores"] = {"ACC": clustering_accuracy(*pair), "NMI": nmi(*pair), "ARI": ari(*pair)}
        summary["scores"]["purity"] = purity(*pair)
        summary["confusion"] = confusion(*pair)
    return summary


def confusion(truth: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Counts of rows by class and cluster, {"classes", "clusters", "counts"}; matched pairs stand on the diagonal.

    Of more than MOST_CLUSTERS the largest are shown.
    """
    table = contingency(truth, labels)
    kinds, found = np.unique(truth), np.unique(labels)
    row = np.sort(np.argsort(-table.sum(1), kind="stable")[:MOST_CLUSTERS])
    column = np.sort(np.argsort(-table.sum(0), kind="stable")[:MOST_CLUSTERS])
    counts = table[row][:, column].toarray()
    first, second = linear_sum_assignment(counts, maximize=True)
    order = [*second, *np.setdiff1d(np.arange(len(column)), second)]
    rows = [*first, *np.setdiff1d(np.arange(len(row)), first)]
    return {
        "classes": [str(kinds[row[i]]) for i in rows],
        "clusters": [int(found[column[j]]) for j in order],
        "counts": counts[np.ix_(rows, order)].tolist(),
        "left_out": [len(kinds) - len(row), len(found) - len(column)],
    }


def space(done: Clustered, rows: np.ndarray) -> np.ndarray:
    """Some rows [S, d] in the space that they are clustered in: codes of deep methods, else the rows themselves."""
    some = take(done.X, rows)
    if isinstance(done.model, DeepEstimator):
        return _array(done.model.transform(some)).astype(np.float64)
    if isinstance(some, Mapping):
        return np.asarray(join_views(some)[0])
    return np.asarray(some).reshape(len(rows), -1).astype(np.float64)


def take(X: Any, rows: np.ndarray | slice) -> Any:
    """Some rows of a table, of images or of views."""
    return {name: view[rows] for name, view in X.items()} if isinstance(X, Mapping) else X[rows]


def largest_clusters(labels: np.ndarray) -> np.ndarray:
    """Numbers of the clusters that have rows, ascending; of more than MOST_CLUSTERS the largest."""
    sizes = np.bincount(labels)
    kept = np.argsort(-sizes, kind="stable")[:MOST_CLUSTERS]
    return np.sort(kept[sizes[kept] > 0])


def typical_rows(done: Clustered, clusters: np.ndarray) -> np.ndarray:
    """Rows [K', m] of each cluster nearest its centre (most certain, where there are no centres); −1 past its end."""
    cost = _costs(done)
    order = np.lexsort((np.arange(len(cost)), cost, done.labels))
    ends = np.cumsum(np.bincount(done.labels))
    found = np.full((len(clusters), TILES), -1)
    for i, k in enumerate(clusters):
        first = order[ends[k - 1] if k else 0 : ends[k]][:TILES]
        found[i, : len(first)] = first
    return found


def montage(rows: np.ndarray, tiles: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Images uint8 [K', m, 3, H, W] of rows [K', m]; floats are stretched from the least to the largest of them all."""
    used = rows[rows >= 0]
    images = np.asarray(tiles(used))
    if images.dtype != np.uint8:
        low, high = float(images.min()), float(images.max())
        images = np.rint((images - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    if images.shape[1] != 3:  # grey, or channels that are no colours: their first is shown
        images = np.repeat(images[:, :1], 3, axis=1)
    sheet = np.zeros((*rows.shape, *images.shape[1:]), dtype=np.uint8)
    sheet[rows >= 0] = images
    return sheet


def _costs(done: Clustered) -> np.ndarray:
    """float64 [N], smallest for the most typical rows of each cluster."""
    N, deep = len(done.labels), isinstance(done.model, DeepEstimator)
    centers = getattr(done.model, "cluster_centers_", None)
    if not hasattr(done.model, "transform") or (deep and not _among_codes(done, centers)):
        return np.zeros(N) if done.soft is None else -done.soft[np.arange(N), done.labels].astype(np.float64)
    step = max(1, _BLOCK // done.n_clusters)
    parts = []
    for start in range(0, N, step):
        some = slice(start, min(start + step, N))
        found, own = _array(done.model.transform(take(done.X, some))), done.labels[some]
        # Codes of deep methods; the distances to all centres of others.
        away = np.linalg.norm(found - _array(centers)[own], axis=1) if deep else found[np.arange(len(own)), own]
        parts.append(away.astype(np.float64))
    return np.concatenate(parts)


def _among_codes(done: Clustered, centers: Any) -> bool:
    """Whether centres [K, d] lie where the codes [N, d] do."""
    if centers is None:
        return False
    return _array(centers).shape[1:] == _array(done.model.transform(take(done.X, slice(0, 1)))).shape[1:]


def _silhouettes(points: np.ndarray, labels: np.ndarray, K: int) -> dict[str, Any]:
    """Mean silhouette of the sampled rows, and of those of each cluster; None where it is not defined."""
    if len(np.unique(labels)) < 2:
        return {"silhouette": None, "silhouettes": [None] * K}
    _, values = silhouette_of_rows(points, labels)
    each = [float(values[labels == k].mean()) if (labels == k).any() else None for k in range(K)]
    return {"silhouette": float(values.mean()), "silhouettes": each}


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
