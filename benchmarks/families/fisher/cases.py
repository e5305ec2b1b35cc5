"""Which models' Fisher diagonals are measured. Letters: N samples of a pass, B samples of a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.cases import unique

OPS = ("fisher_diagonal",)
SIZES = ("N", "B")
COLUMNS = ("op", "model", "dtype", *SIZES)  # of a result file

# Multiply-adds of one forward pass of one sample; a training step takes about three times as many.
PRODUCTS = {"mlp": 1.86e6, "resnet18-32": 5.6e8, "resnet18-224": 1.8e9, "vit-s": 4.6e9, "vit-b": 1.75e10}


@dataclass(frozen=True)
class Case:
    """One model (models.py) and one way to cut its samples into batches."""

    op: str
    model: str
    N: int
    B: int
    dtype: str = "float32"

    @property
    def id(self) -> str:
        return f"{self.op}-{self.model}-N{self.N}-B{self.B}-{self.dtype}"

    @property
    def flops(self) -> float:
        """Operations of a plain forward and backward pass over the samples."""
        return 6.0 * PRODUCTS[self.model] * self.N

    def to_dict(self) -> dict:
        return asdict(self)


def order(row: dict) -> tuple:
    """Where a row stands in its result file."""
    return row["model"], row["dtype"], row["N"], row["B"]


def passes(model: str, B: int, batches: int = 4) -> Case:
    return Case("fisher_diagonal", model, N=B * batches, B=B)


TINY = (passes("mlp", 8, 2),)
QUICK = (passes("mlp", 256, 8), passes("resnet18-32", 32))
GOALS = (
    passes("mlp", 256, 8),
    passes("mlp", 32, 32),
    passes("resnet18-32", 32),
    passes("resnet18-224", 8),
    passes("vit-s", 8),
    passes("vit-b", 4, 2),
)
FULL = unique([*GOALS, passes("mlp", 1_024), passes("resnet18-32", 128), passes("vit-b", 8)])
GPU = (passes("mlp", 1_024), passes("resnet18-224", 64), passes("vit-b", 64))

PRESETS = {"quick": QUICK, "goals": GOALS, "full": FULL, "gpu": GPU}
