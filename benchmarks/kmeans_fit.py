"""Whole k-means fits to one inertia: `python -m benchmarks.kmeans_fit`.

A million rows of 128 features in 1,000 clusters, of two kinds: "heap", standard normal rows without any structure, and
"groups", 3,000 overlapping ones. faiss runs its 25 iterations from random rows, on all rows and on the BLAS it is
fastest with; what it reaches is the target. Ours runs from its own start the fewest iterations that reach the target,
known from a fit before the timed one. scikit-learn runs as many iterations as faiss from its own start; what it reaches
stands beside its time. Every contestant has a process and an environment of its own.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import machine, records
from benchmarks.contestant import Contestant, environment
from benchmarks.families.knn.data import _block_values

N, D, K, ITERATIONS = 1_000_000, 128, 1_000, 25
GROUPS, BLOCK = 3_000, 16_384
COLUMNS = ("data", "N", "D", "K", "contestant", "env", "iterations", "seconds", "inertia", "versions", "threads")
ABOUT = ("commit", "machine", "load", "date")
CONTESTANTS = {
    "faiss": Contestant("faiss", "faiss", env={"OPENBLAS_CORETYPE": "SkylakeX"}),
    "pyfast": Contestant("pyfast", "pyfast"),
    "scikit-learn": Contestant("scikit-learn", "sklearn"),
}


def make(kind: str, path: Path) -> None:
    """Rows [N, D] float32 from a seed."""
    rng = np.random.default_rng([21, D])
    centers = rng.standard_normal((GROUPS, D), dtype=np.float32) * (kind == "groups")
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(N, D))
    for start in range(0, N, BLOCK):
        count = min(BLOCK, N - start)
        out[start : start + count] = centers[rng.integers(0, GROUPS, count)] + rng.standard_normal(
            (count, D), dtype=np.float32
        )
    out.flush()


def inertia(rows: np.ndarray, centers: np.ndarray) -> float:
    """Sum of squared distances to the nearest centre, in float64."""
    centers, total = centers.astype(np.float64), 0.0
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].astype(np.float64)
        total += float(_block_values(block, centers, "l2").min(1).sum() + np.square(block).sum())
    return total


def fit(name: str, rows: np.ndarray, iterations: int) -> tuple[np.ndarray, list[float], str]:
    """Centres [K, D], inertias by iteration where the library tells them, and its version."""
    if name == "faiss":
        import faiss

        engine = faiss.Kmeans(D, K, niter=iterations, max_points_per_centroid=len(rows))
        engine.train(rows)
        return engine.centroids, [], f"faiss-cpu={faiss.__version__}"
    if name == "pyfast":
        import pyfast_mmcl
        from pyfast_mmcl.clustering.kmeans import KMeans

        model = KMeans(K, max_iter=iterations, random_state=0).fit(rows)
        return model.cluster_centers_, list(model.inertia_history_), f"pyfast_mmcl={pyfast_mmcl.__version__}"
    import sklearn
    from sklearn.cluster import KMeans as Sklearn

    engine = Sklearn(K, n_init=1, max_iter=iterations, random_state=0).fit(rows)
    return engine.cluster_centers_, [], f"scikit-learn={sklearn.__version__}"


def work(name: str, path: Path, iterations: int, target: float) -> dict:
    """One timed fit, in this process."""
    rows = np.load(path)
    fit(name, rows[: 2 * K], 1)  # imports and starts threads
    if target:
        history = fit(name, rows, iterations)[1]
        iterations = next((i for i, value in enumerate(history) if value <= target), iterations)
    start = time.perf_counter()
    centers, _, version = fit(name, rows, iterations)
    seconds = time.perf_counter() - start
    np.save(path.with_name(f"centers-{name}.npy"), centers)
    return {"iterations": iterations, "seconds": seconds, "versions": version}


def run(kind: str, folder: Path, names: list[str], results: Path) -> None:
    """A row per contestant, kept at once; the first sets the target of those that can stop at it."""
    path, rows, target = folder / f"{kind}.npy", [], 0.0
    make(kind, path)
    for name in names:
        one = CONTESTANTS[name]
        command = [sys.executable, "-m", "benchmarks.kmeans_fit", "--worker", name, "--rows", str(path)]
        command += ["--target", repr(target if name == "pyfast" else 0.0)]
        done = subprocess.run(
            command, env=environment(one, machine.cores()), cwd=machine.ROOT, stdout=subprocess.PIPE, check=True
        )
        row = {"data": kind, "N": N, "D": D, "K": K, "contestant": name, **json.loads(done.stdout)}
        row["env"] = " ".join(f"{key}={value}" for key, value in one.env.items())
        row["inertia"] = inertia(np.load(path, mmap_mode="r"), np.load(path.with_name(f"centers-{name}.npy")))
        row |= {"threads": machine.cores(), "commit": machine.commit(), "machine": machine.cpu_model()}
        row["load"] = machine.load_average()
        row["date"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{kind} {name}: {row['seconds']:.1f} s, inertia {row['inertia']:.7g}", file=sys.stderr, flush=True)
        target = target or row["inertia"]
        rows.append(row)
        keep(results, rows)


def keep(path: Path, rows: list[dict]) -> None:
    """Put the rows of a kind of data in place of its older ones; the whole file at once."""
    old = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    kinds = {row["data"] for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        table = csv.DictWriter(file, (*COLUMNS, *ABOUT), lineterminator="\n")
        table.writeheader()
        for row in [row for row in old if row["data"] not in kinds] + rows:
            table.writerow({key: f"{value:.8g}" if isinstance(value, float) else value for key, value in row.items()})
    os.replace(partial, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kmeans_fit", description=__doc__.split("\n")[0])
    parser.add_argument("--data", action="append", choices=("heap", "groups"), help="both when not given")
    parser.add_argument("--only", action="append", choices=tuple(CONTESTANTS), help="faiss first: it sets the target")
    parser.add_argument("--results", type=Path, default=records.RESULTS)
    parser.add_argument("--worker", choices=tuple(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        print(json.dumps(work(options.worker, options.rows, ITERATIONS, options.target)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.data or ("heap", "groups"):
            path = options.results / machine.slug() / "kmeans_fit" / "rows.csv"
            run(kind, Path(folder), options.only or list(CONTESTANTS), path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
