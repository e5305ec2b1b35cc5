"""What each criterion of `clustering.how_many` finds in rows whose groups are known: `python -m benchmarks.how_many`.

Prints a line per set: found with every seed. `--only` takes sets by the beginning of their names, `--sample` the rows
that are looked at.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.methods.clusters_data import digits, har, mnist
from pyfast_mmcl.clustering.how_many import how_many

CRITERIA = ("silhouette", "gap", "x-means", "g-means")
K = 8


def groups(shape: str, D: int) -> np.ndarray:
    """Eight normal groups [2000, D]: "round", "stretched" (a quarter of the directions four times as wide, in every
    group other ones) or "uneven" (of 40 to 800 rows and half to twice as wide)."""
    rng = np.random.default_rng([5, D])
    sizes = (800, 400, 300, 200, 100, 100, 60, 40) if shape == "uneven" else (250,) * K
    rows = []
    for size, width in zip(sizes, (2, 0.5, 1, 1, 2, 0.5, 1, 1), strict=True):
        axes, _ = np.linalg.qr(rng.normal(size=(D, D)))
        scale = np.where(np.arange(D) < max(1, D // 4), 4.0, 1.0) if shape == "stretched" else np.ones(D)
        scale = scale * (width if shape == "uneven" else 1.0)
        rows.append(12 * rng.normal(size=D) + (scale * rng.normal(size=(size, D))) @ axes)
    return np.concatenate(rows).astype(np.float32)


SETS = {
    **{f"{shape}, D = {D}": (lambda shape=shape, D=D: groups(shape, D)) for shape in ("round", "stretched", "uneven")
       for D in (2, 16)},
    "digits": lambda: digits().vectors,
    "HAR": lambda: har().vectors,
    "MNIST-10k": lambda: mnist().vectors,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.how_many", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=4096)
    parser.add_argument("--only", default="")
    parser.add_argument("--criterion", action="append", choices=CRITERIA, help="all when not given")
    options = parser.parse_args()
    for name, make in SETS.items():
        if not name.startswith(options.only):
            continue
        X, found = make(), {}
        for criterion in options.criterion or CRITERIA:
            tries = (how_many(X, criterion, random_state=seed, sample=options.sample) for seed in range(options.seeds))
            found[criterion] = ", ".join(str(one.n_clusters) for one in tries)
        print(name, found, flush=True)


if __name__ == "__main__":
    main()
