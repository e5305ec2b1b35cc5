"""Which losses are measured, forward and backward together. Letters: N rows of a side (of one view where there are
two), M rows of a frozen bank, D features, C classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product

from benchmarks.cases import unique

OPS = ("info_nce", "nt_xent", "sup_con", "siglip", "similarity_kl")
SIZES = ("N", "M", "D", "C")
COLUMNS = ("op", "dtype", *SIZES, "direction")  # of a result file

VIEWS = ("nt_xent", "sup_con")  # one matrix of 2N rows, each row against all others


@dataclass(frozen=True)
class Case:
    """One shape of one loss. `C` belongs to sup_con; `M` to similarity_kl against a frozen bank of M rows, which is
    what `direction` "ab" (rows of the first side only) stands for."""

    op: str
    N: int
    D: int
    M: int = 0
    C: int = 0
    direction: str = "both"
    dtype: str = "float32"

    @property
    def id(self) -> str:
        sizes = "-".join(f"{letter}{getattr(self, letter)}" for letter in SIZES if getattr(self, letter))
        return f"{self.op}-{sizes}-{self.direction}-{self.dtype}"

    @property
    def rows(self) -> int:
        """Rows of the similarity matrix."""
        return 2 * self.N if self.op in VIEWS else self.N

    @property
    def columns(self) -> int:
        return self.M or self.rows

    @property
    def differentiable(self) -> tuple[str, ...]:
        """Inputs whose gradient everyone returns."""
        if self.op in VIEWS:
            return ("z",)
        if self.op == "similarity_kl":
            return ("student_a",) if self.M else ("student_a", "student_b")
        return ("a", "b", "scale", "bias") if self.op == "siglip" else ("a", "b", "scale")

    @property
    def flops(self) -> float:
        """Operations of the products nobody can avoid: each similarity matrix once, each gradient of rows once."""
        matrices = 2 if self.op == "similarity_kl" else 1
        gradients = 1 if self.M else 2
        return 2.0 * (matrices + gradients) * self.rows * self.columns * self.D

    @property
    def gradient_mib(self) -> float:
        """Size of the returned gradients of rows."""
        sides = sum(name not in ("scale", "bias") for name in self.differentiable)
        return sides * self.rows * self.D * (2 if self.dtype == "bfloat16" else 4) / 2**20

    def to_dict(self) -> dict:
        return asdict(self)


def order(row: dict) -> tuple:
    """Where a row stands in its result file."""
    return row["direction"], row["dtype"], *(row[letter] or 0 for letter in "MNDC")


def clip(N: int, D: int, **more) -> Case:
    return Case("info_nce", N=N, D=D, **more)


def views(rows: int, D: int) -> tuple[Case, Case]:
    """NT-Xent and SupCon of `rows` = 2N rows; SupCon with 100 classes, as CIFAR-100 has."""
    return Case("nt_xent", N=rows // 2, D=D), Case("sup_con", N=rows // 2, D=D, C=100)


def kl(N: int, D: int, M: int = 0, **more) -> Case:
    return Case("similarity_kl", N=N, D=D, M=M, direction="ab" if M else "both", **more)


TINY = (
    clip(200, 64),
    Case("nt_xent", N=100, D=32),
    Case("sup_con", N=100, D=32, C=10),
    Case("siglip", N=200, D=64),
    kl(200, 64),
    kl(100, 64, M=300),
)

QUICK = (
    clip(256, 512),
    clip(2_048, 512),
    *views(2_048, 128),
    Case("siglip", N=2_048, D=512),
    kl(2_048, 512),
)

# At least two shapes for every goal in goals.py.
GOALS = (
    clip(4_096, 512),
    clip(4_096, 768),
    clip(4_096, 512, dtype="bfloat16"),
    *views(4_096, 128),
    *views(4_096, 512),
    kl(4_096, 512),
    kl(4_096, 512, M=4_096),
    Case("siglip", N=4_096, D=512),
    clip(256, 512),
    clip(256, 768),
    clip(128, 512),
    *views(256, 128),
    clip(1_024, 512),
    clip(1_024, 1_024),
    clip(8_192, 512),
    kl(1_024, 512),
    kl(4_096, 768),
)

_CLIP_GRID = [
    clip(N, D, dtype=t) for t, N, D in product(("float32", "bfloat16"), (256, 1_024, 4_096, 8_192), (512, 768, 1_024))
]
_VIEW_GRID = [case for rows, D in product((512, 4_096, 16_384), (64, 128, 256, 512)) for case in views(rows, D)]
_SIGLIP_GRID = [Case("siglip", N=N, D=D) for N, D in product((256, 1_024, 4_096, 8_192), (512, 768))]
_KL_GRID = [kl(N, D, M=M) for N, D, M in product((1_024, 4_096), (512, 1_024), (0, 4_096))]
FULL = unique([*GOALS, *_CLIP_GRID, *_VIEW_GRID, *_SIGLIP_GRID, *_KL_GRID])

GPU = (
    *(clip(N, 768, dtype=t) for t, N in product(("float32", "bfloat16"), (1_024, 8_192, 32_768))),
    clip(65_536, 768, dtype="bfloat16"),
    *(Case("siglip", N=N, D=768, dtype="bfloat16") for N in (32_768, 65_536, 131_072)),
    Case("siglip", N=32_768, D=768),
    *(case for rows in (4_096, 16_384, 65_536) for case in views(rows, 128)),
    kl(8_192, 768),
    kl(8_192, 768, dtype="bfloat16"),
    kl(8_192, 768, M=32_768),
)

PRESETS = {"quick": QUICK, "goals": GOALS, "full": FULL, "gpu": GPU}
