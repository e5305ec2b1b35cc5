"""Every clustering method on every real data set it fits, beside scikit-learn, faiss and ClustPy.

    python -m benchmarks.aside clustpy                       # once: ClustPy, in a folder of its own
    export PYFAST_MMCL_DATA=folder OMP_NUM_THREADS=1
    python -m benchmarks.methods.clusters digits mnist       # these data sets
    python -m benchmarks.methods.clusters --seeds 2 --line dec --line "dec, ClustPy"
    python -m benchmarks.methods.clusters --list             # what there is

One process, one thread, one run after the other: ours and a peer's form of the same method in turns. A run that is in
the result folders already is not repeated: interrupt and continue at will, but let no two processes write the same
folder. Data sets are rows of `clusters_shows`, lines rows of `clusters_lines`, epochs `clusters_settings`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import memory
from benchmarks.clock import no_collection
from benchmarks.methods import clusters_clustpy, clusters_data, results
from benchmarks.methods.clusters_lines import LINES, Line
from benchmarks.methods.clusters_settings import BATCH, CODE, WIDTHS
from benchmarks.methods.clusters_shows import SHOWS, Show
from benchmarks.methods.results import Column, Experiment, Row, Table
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics.clustering import clustering_scores

HOW = (
    "ACC is the accuracy under the best one-to-one naming of clusters by classes, NMI the arithmetic one. Every "
    "library is given the same float32 rows and the number of classes. Seconds are those of one fit on one thread of a "
    "machine that did other work too, so that a run now and then waited: CPU seconds, its share, are the ones to "
    "compare. Peak memory is what a fit adds to it. K-means keeps the best of ten starts, of twenty on embeddings. "
    "Epochs are few, so that most fits take a minute or less, none more than three: see the settings."
)
# What is said where a line has been run whose name has these words in it.
OF_LINES = {
    "ClustPy": "ClustPy's methods have the network, epochs and batches of ours and their own losses, optimisers and "
    "rates; our dec renews its targets once an epoch and goes on to the last one, since ClustPy's does.",
    "iic": 'The networks of images train with Training(precision="bf16"). Their settings were chosen on seed 0 of '
    "MNIST-10k and of the CIFAR-10 sample with the classes in view; other seeds and sets are fresh.",
    "vade": 'A "vade" without further words has a Bernoulli likelihood and the bound of its paper; β 1/256 weighs the '
    "divergence as ClustPy does in batches of 256. Its rate was chosen on the first seeds of digits, HAR and "
    "MNIST-10k.",
    "cluster_gan": "ClusterGAN's settings, and the Siamese distances of spectral_net on MNIST-10k, were chosen on seed "
    "0 with the classes in view.",
}
COLUMNS = (
    Column("acc", "ACC", "%"),
    Column("nmi", "NMI", "%"),
    Column("ari", "ARI", "%"),
    Column("seconds", "seconds", digits=None),
    Column("cpu_seconds", "CPU seconds", digits=None),
    Column("peak_mib", "peak memory MiB", digits=0),
)
WARM_ROWS = 300  # of the untimed run before the first of every line


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.clusters", description=__doc__)
    parser.add_argument("data", nargs="*", help="only these data sets")
    parser.add_argument("--line", action="append", help="only these lines of the tables")
    parser.add_argument("--seeds", type=int, help="only this many of the seeds")
    parser.add_argument("--list", action="store_true", help="name the data sets and their lines, and stop")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args(argv)
    unknown = [name for name in options.data if name not in {show.data for show in SHOWS}]
    if unknown:
        parser.error(f"no data set {', '.join(unknown)}; choose from {', '.join(show.data for show in SHOWS)}")
    shows = [show for show in SHOWS if not options.data or show.data in options.data]
    if options.list:
        print("\n".join(f"{show.data}: {'; '.join(show.lines)}" for show in shows))
        return 0
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("set OMP_NUM_THREADS=1: all libraries run on one thread", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    clusters_clustpy.library()
    failed = 0
    for show in shows:
        for seed in show.seeds[: options.seeds]:
            # Seeds outside, lines inside: a run that is cut short has every line on as many seeds.
            for name in options.line or show.lines:
                failed += name in show.lines and not attempted(show, name, seed, options.results)
        settle(show, options.results)
    return 1 if failed else 0


def settle(show: Show, root: Path) -> None:
    """Bring the prose of a result folder up to date, and say which lines have not been run."""
    if not (root / show.folder).exists():
        return
    run = lines_run(show, root)
    missing = "; ".join(name for name in show.lines if name not in run)
    notes = (*show.notes, f"Not run here, for want of time: {missing}.") if missing else show.notes
    results.record(replace(experiment(show, run), notes=notes), [], threads=1, root=root)


def lines_run(show: Show, root: Path) -> set[str]:
    """Lines of a data set that its result folder has rows of."""
    folder = root / show.folder
    return {row.method for row in results.read(folder).rows} if folder.exists() else set()


def attempted(show: Show, name: str, seed: int, root: Path) -> bool:
    """One run, recorded unless it has been; what an estimator refuses is said and the others go on."""
    line, folder = LINES[name], root / show.folder
    if line.once and seed != show.seeds[0]:
        return True
    rows = results.read(folder).rows if folder.exists() else []
    if any((row.method, row.seed) == (name, seed) for row in rows):
        return True
    try:
        found = measured(show, name, line, seed)
    except InputError as error:
        print(f"{show.title} · {name} · seed {seed}: {error}", file=sys.stderr, flush=True)
        return False
    record = [Row(show.title, name, seed, measure, value) for measure, value in found.items()]
    results.record(experiment(show, lines_run(show, root) | {name}), record, threads=1, root=root)
    print(f"{show.title} · {name} · seed {seed}: ACC {found['acc']:.3f}, {found['cpu_seconds']:.1f} s", flush=True)
    return True


_warm: set[tuple[str, str]] = set()


def measured(show: Show, name: str, line: Line, seed: int) -> dict[str, float]:
    """Scores, seconds, CPU seconds and peak memory of one fit."""
    data = clusters_data.read(show.data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # k-means that stops at its last iteration, clusters that stay empty
        if (show.data, name) not in _warm:
            line.run(first_rows(data), seed, show.budget.least())
            _warm.add((show.data, name))
        before = memory.start()
        with no_collection():
            wall, cpu = time.perf_counter(), time.process_time()
            labels = line.run(data, seed, show.budget)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = {**clustering_scores(data.y, labels), "seconds": wall, "cpu_seconds": cpu}
    peak = memory.extra_since(before)
    return found if peak is None else found | {"peak_mib": peak / 2**20}


def first_rows(data: clusters_data.Data) -> clusters_data.Data:
    """A few rows of the two commonest classes."""
    classes = np.argsort(np.bincount(data.y))[-2:]
    rows = np.flatnonzero(np.isin(data.y, classes))[:WARM_ROWS]
    return data.take(rows)


def experiment(show: Show, run: set[str]) -> Experiment:
    """The experiment that the result folder of a data set holds, of whose lines those in ``run`` have been run."""
    network = f"D – {' – '.join(map(str, WIDTHS))} – {CODE}, ReLU"
    epochs = f"{show.budget.pretrain} + {show.budget.epochs}"
    more = [text for words, text in OF_LINES.items() if any(words in name for name in run)]
    settings = show.budget.said({LINES[name].method for name in run if name in LINES})
    # What other methods are given stands in the text: a method that is added must not part old rows from new ones.
    config = {"autoencoder": network, "its epochs": epochs, "its batch": BATCH, "seeds": list(show.seeds)}
    return Experiment(
        name=show.folder,
        title=show.title,
        text=" ".join([show.text, HOW, *more, f"Settings of methods without that autoencoder: {settings}."]),
        config=config,
        streams=(show.title,),
        methods=show.lines,
        tables=(Table("Clusterings", COLUMNS),),
        notes=show.notes,
        packages=("torch", "numpy", "scikit-learn", "faiss-cpu", "clustpy"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
