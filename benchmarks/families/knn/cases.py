"""What is measured: operation × shape × metric, declared once. Letters: N queries or rows, M database rows,
D features, k neighbours, K centres."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product

from benchmarks.cases import unique

OPS = ("knn", "nearest", "lloyd_step")
SIZES = ("N", "M", "D", "k", "K")
COLUMNS = ("op", "metric", "dtype", *SIZES, "moving")  # of a result file

FEATURES = (128, 512, 768, 1024)  # D
DATABASES = (20_000, 100_000, 1_000_000)  # M
NEIGHBOURS = (1, 10, 100)  # k
QUERIES = (1, 8, 32, 160, 1_000, 10_000)  # N


@dataclass(frozen=True)
class Case:
    """One shape of one operation. `M`, `k` belong to knn, `K` to nearest and lloyd_step; unused ones are 0.

    `moving` makes every call a little smaller than the one before (N−1, M−1, …), as a growing replay memory does:
    it exposes kernels that compile once per shape.
    """

    op: str
    N: int
    D: int
    M: int = 0
    k: int = 0
    K: int = 0
    metric: str = "l2"
    dtype: str = "float32"
    moving: bool = False

    @property
    def id(self) -> str:
        sizes = "-".join(f"{letter}{getattr(self, letter)}" for letter in "NMDkK" if getattr(self, letter))
        return f"{self.op}-{sizes}-{self.metric}-{self.dtype}" + ("-moving" if self.moving else "")

    @property
    def others(self) -> int:
        """Rows on the other side of the product: database rows or centres."""
        return self.M or self.K

    @property
    def flops(self) -> float:
        """Operations of the N × others × D product: what 'effective GFLOP/s' divides by the time."""
        return 2.0 * self.N * self.others * self.D

    def to_dict(self) -> dict:
        return asdict(self)


def knn(N: int, M: int, D: int, k: int, **more) -> Case:
    return Case("knn", N=N, M=M, D=D, k=k, **more)


def _knn_grid() -> list[Case]:
    """The whole kNN grid, cheapest shapes first inside each database so that files are made once."""
    grid = [knn(N, M, D, k) for M, D, N, k in product(DATABASES, FEATURES, QUERIES, NEIGHBOURS)]
    other_metrics = [knn(N, 100_000, 768, 10, metric=metric) for metric in ("ip", "cosine") for N in (1, 32, 1_000)]
    return grid + other_metrics


def _nearest_grid() -> list[Case]:
    return [Case("nearest", N=N, D=D, K=K) for N, D, K in product((20_000, 100_000), (128, 768), (100, 1_000))]


def _lloyd_grid() -> list[Case]:
    small = [Case("lloyd_step", N=N, D=D, K=K) for N, D, K in product((20_000, 100_000), (128, 512, 768), (100, 1_000))]
    return [*small, Case("lloyd_step", N=1_000_000, D=128, K=1_000)]


TINY = (
    knn(1, 5_000, 128, 10),
    knn(64, 5_000, 128, 10),
    knn(500, 5_000, 128, 10),
    Case("nearest", N=5_000, D=64, K=100),
    Case("lloyd_step", N=5_000, D=64, K=100),
)

QUICK = (
    knn(1_000, 20_000, 768, 10),
    knn(32, 20_000, 768, 10),
    knn(1, 100_000, 768, 10),
    Case("nearest", N=20_000, D=128, K=1_000),
    Case("lloyd_step", N=20_000, D=128, K=1_000),
)

# At least two shapes for every goal in goals.py, ordered so that the most telling come first.
GOALS = (
    *QUICK,
    knn(1_000, 100_000, 768, 10),
    knn(160, 100_000, 768, 10),
    knn(32, 100_000, 768, 10),
    knn(8, 100_000, 768, 10),
    Case("lloyd_step", N=100_000, D=512, K=1_000),
    Case("lloyd_step", N=100_000, D=768, K=100),
    knn(1, 1_000_000, 768, 10),
    knn(8, 1_000_000, 768, 10),
    knn(32, 1_000_000, 768, 10),
    knn(1_000, 1_000_000, 768, 10),
    knn(1_000, 20_000, 512, 10),
    knn(1_000, 20_000, 1024, 10),
    knn(1_000, 20_000, 128, 10),
    knn(1_000, 20_000, 768, 1),
    knn(1_000, 20_000, 768, 100),
    knn(8, 20_000, 512, 10),
    knn(160, 20_000, 1024, 10),
    knn(160, 20_000, 128, 10),
    knn(1, 100_000, 128, 10),
    knn(1, 100_000, 1024, 100),
    knn(10_000, 20_000, 512, 10),
    knn(10_000, 100_000, 768, 10),
)

GPU = (
    *(
        knn(N, M, D, k, dtype=dtype)
        for dtype, (N, M, D, k) in product(
            ("float32", "bfloat16"),
            (
                (1, 1_000_000, 768, 10),
                (64, 1_000_000, 768, 10),
                (1_024, 1_000_000, 768, 10),
                (16_384, 100_000, 128, 1),
                (16_384, 100_000, 128, 10),
                (16_384, 100_000, 128, 32),
                (16_384, 100_000, 768, 10),
            ),
        )
    ),
    knn(1_024, 100_000, 768, 10, moving=True),
    Case("nearest", N=1_000_000, D=128, K=1_000),
    Case("nearest", N=1_000_000, D=512, K=1_000),
    Case("lloyd_step", N=1_000_000, D=128, K=1_000),
    Case("lloyd_step", N=1_000_000, D=512, K=1_000),
)


FULL = unique(GOALS + tuple(_knn_grid()) + tuple(_nearest_grid()) + tuple(_lloyd_grid()))

PRESETS = {"quick": QUICK, "goals": GOALS, "full": FULL, "gpu": GPU}


def order(row: dict) -> tuple:
    """Where a row stands in its result file."""
    return row["metric"], row["dtype"], *(row[letter] or 0 for letter in "MDNkK")
