"""`pyfast-mmcl cluster`: a file of rows in, labels, centres and a summary out."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ._errors import InputError
from .cli_arrays import open_rows
from .cli_errors import on_interrupt
from .report import runs, tables

SUMMARY = "summary.json"


def cluster(
    data: Path,
    method: str,
    n_clusters: int,
    out: Path,
    *,
    seed: int,
    key: str | None,
    columns: Sequence[str],
    truth: Path | None,
    settings: Mapping[str, Any],
) -> None:
    """Cluster the rows of `data` and write labels.npy [N], centers.npy [K, D] and summary.json into the new `out`.

    Raises:
        InputError: unknown method or setting, unusable file, more clusters than rows, an occupied `out`.
        OSError: a file or folder that cannot be read or written.
    """
    console = Console()
    estimator = _estimator(method, n_clusters, seed, settings)
    rows, how = open_rows(data, key=key, columns=columns)
    classes = None if truth is None else _classes(truth, len(rows))
    console.print(f"{data}: {rows.shape[0]:,} rows × {rows.shape[1]} features, {how}.", highlight=False, soft_wrap=True)
    options = {"data": str(data), "method": method, "k": n_clusters, "seed": seed, "key": key, "columns": list(columns)}
    options["set"] = dict(settings)
    with (
        on_interrupt(f"interrupted; nothing was written to {out}, run the same command again."),
        runs.new_folder(out) as folder,
    ):
        start = time.perf_counter()
        labels = np.asarray(estimator.fit(rows).labels_)
        summary = _summary(estimator, rows, labels, classes, time.perf_counter() - start)
        runs.write_array(folder / "labels.npy", labels)
        centers = getattr(estimator, "cluster_centers_", None)
        if centers is not None:
            runs.write_array(folder / "centers.npy", np.asarray(centers))
        runs.write_json(folder / SUMMARY, summary)
        runs.write_record(folder, "cluster", options)
    console.print(tables.plain(f"{method}, K = {n_clusters}", ("", ""), describe(summary)))
    console.print(f"Saved in {out}; pyfast-mmcl report {out} draws it.", highlight=False, soft_wrap=True)


def _estimator(method: str, n_clusters: int, seed: int, settings: Mapping[str, Any]) -> Any:
    from .train.registry import get_estimator

    entry = get_estimator(method)
    known = inspect.signature(entry.target).parameters
    for taken, option in (("n_clusters", "--k"), ("random_state", "--seed")):
        if taken in settings:
            raise InputError(f"--set {taken} has an option of its own; use {option}.")
    fixed = {"n_clusters": n_clusters, "random_state": seed}
    return entry.build(**{name: value for name, value in fixed.items() if name in known}, **settings)


def _classes(path: Path, n_rows: int) -> np.ndarray:
    try:
        classes = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a complete .npy array of classes ({error}).") from error
    if not isinstance(classes, np.ndarray) or classes.shape != (n_rows,):
        found = list(classes.shape) if isinstance(classes, np.ndarray) else "an archive"
        raise InputError(f"{path}: expected one class per row in a .npy file, shape [{n_rows}], got {found}.")
    return classes


def _summary(estimator: Any, rows: np.ndarray, labels: np.ndarray, classes: np.ndarray | None, seconds: float) -> dict:
    sizes = np.bincount(labels[labels >= 0])
    summary: dict[str, Any] = {
        "rows": int(rows.shape[0]),
        "features": int(rows.shape[1]),
        "clusters": int((sizes > 0).sum()),
        "smallest": int(sizes.min()),
        "largest": int(sizes.max()),
        "sizes": sizes.tolist(),
        "seconds": round(seconds, 3),
    }
    for name in ("inertia_", "n_iter_"):
        if hasattr(estimator, name):
            summary[name.rstrip("_")] = getattr(estimator, name)
    if classes is not None:
        from .metrics.clustering import ari, clustering_accuracy, nmi

        summary["scores"] = {
            "ACC": clustering_accuracy(classes, labels),
            "NMI": nmi(classes, labels),
            "ARI": ari(classes, labels),
        }
    return summary


def describe(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The summary as (name, value) rows for a table."""
    rows = [
        ("rows × features", f"{summary['rows']:,} × {summary['features']}"),
        ("clusters", f"{summary['clusters']:,}"),
        ("smallest, largest", f"{summary['smallest']:,}, {summary['largest']:,} rows"),
    ]
    if "inertia" in summary:
        rows.append(("inertia", f"{summary['inertia']:.6g}"))
    if "n_iter" in summary:
        rows.append(("iterations", str(summary["n_iter"])))
    rows += [(name, f"{value:.4f}") for name, value in summary.get("scores", {}).items()]
    return [*rows, ("seconds", f"{summary['seconds']:.2f}")]
