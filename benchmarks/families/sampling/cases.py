"""Which choices of rows are measured.

Letters: N rows (of a stream, leaves of a tree, weights), B rows of a batch or draws of a call, M rows kept or chosen,
D features of a row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.cases import unique

TREE = ("priority_sample", "priority_update", "priority_both")
GREEDY = ("herding", "k_center")
DRAWS = ("gumbel_top_k", "alias_sample")
OPS = ("reservoir", *TREE, *GREEDY, *DRAWS, "memory_sample")
SIZES = ("N", "B", "M", "D")
COLUMNS = ("op", "dtype", *SIZES)  # of a result file


@dataclass(frozen=True)
class Case:
    """One operation at one size; letters that it does not have are 0."""

    op: str
    N: int
    B: int = 0
    M: int = 0
    D: int = 0
    dtype: str = "float32"

    @property
    def id(self) -> str:
        sizes = "-".join(f"{letter}{getattr(self, letter)}" for letter in SIZES if getattr(self, letter))
        return f"{self.op}-{sizes}-{self.dtype}"

    @property
    def flops(self) -> float:
        """Products of the greedy choices; elsewhere one for every item touched, so that figures are items per time."""
        if self.op in GREEDY:
            return 2.0 * self.N * self.M * self.D
        return float(self.items)

    @property
    def items(self) -> int:
        """Rows offered, drawn or updated by a call."""
        return self.N if self.op == "reservoir" else self.B or self.M

    def to_dict(self) -> dict:
        return asdict(self)


def order(row: dict) -> tuple:
    """Where a row stands in its result file."""
    return row["op"], row["dtype"], *(row[letter] for letter in SIZES)


def reservoirs(M: int, *batches: int, N: int = 1_000_000) -> tuple[Case, ...]:
    return tuple(Case("reservoir", N, B, M, D=16) for B in batches)


def trees(N: int, *batches: int, ops: tuple[str, ...] = TREE) -> tuple[Case, ...]:
    return tuple(Case(op, N, B) for op in ops for B in batches)


def greedy(op: str, *sizes: tuple[int, int, int]) -> tuple[Case, ...]:
    return tuple(Case(op, N, M=M, D=D) for N, D, M in sizes)


def draws(N: int, *counts: int) -> tuple[Case, ...]:
    return tuple(Case(op, N, B) for op in DRAWS for B in counts)


MEMORY = (Case("memory_sample", 10_000, 256),)
TINY = (
    Case("reservoir", 3_000, 64, 100, 4),
    *trees(1_000, 32),
    *greedy("herding", (60, 8, 60), (60, 8, 20)),
    *greedy("k_center", (60, 8, 10)),
    *draws(500, 16),
    Case("memory_sample", 200, 32),
)
QUICK = (
    *reservoirs(10_000, 256),
    *trees(100_000, 1_024),
    *greedy("herding", (5_000, 512, 20)),
    *greedy("k_center", (5_000, 512, 20)),
    *draws(100_000, 1_024),
    *MEMORY,
)
GOALS = (
    *reservoirs(1_000, 32, 256, 1_024),
    *reservoirs(10_000, 10, 32, 256, 1_024),
    *reservoirs(100_000, 32, 256, 1_024),
    *trees(100_000, 32, 1_024),
    *trees(1_000_000, 32, 256, 1_024, 8_192),
    *trees(10_000_000, 1_024, 8_192),
    *greedy("herding", (500, 64, 20), (5_000, 512, 20), (5_000, 512, 200), (50_000, 512, 20)),
    *greedy("herding", (500, 64, 500), (5_000, 64, 5_000), (5_000, 512, 5_000)),
    *greedy("k_center", (500, 64, 20), (5_000, 512, 20), (5_000, 512, 200), (50_000, 512, 20)),
    *draws(100_000, 256, 8_192),
    *draws(1_000_000, 256, 8_192),
    *MEMORY,
)
FULL = unique(
    [
        *GOALS,
        *(case for M in (1_000, 10_000, 100_000) for case in reservoirs(M, 10, 32, 256, 1_024)),
        *(case for N in (100_000, 1_000_000, 10_000_000) for case in trees(N, 32, 256, 1_024, 8_192)),
        *(
            case
            for op in GREEDY
            for N in (500, 5_000, 50_000)
            for D in (64, 512, 2_048)
            for case in greedy(op, (N, D, 20), (N, D, 200))
        ),
        *greedy("herding", *((N, D, N) for N in (500, 5_000) for D in (64, 512, 2_048))),
    ]
)

PRESETS = {"quick": QUICK, "goals": GOALS, "full": FULL, "gpu": ()}
