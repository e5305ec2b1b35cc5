"""Which penalties are measured. Letters: T old tasks, P parameters of the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass

OPS = ("quadratic_penalty",)
SIZES = ("T", "P")
COLUMNS = ("op", "model", "dtype", *SIZES)  # of a result file

PARAMETERS = {"mlp": 1_863_690, "resnet18-224": 11_227_812, "vit-b": 85_875_556}

# Tasks beyond these share the arrays of earlier ones: 20 tasks of ViT-B would be 13 GiB. Each array is ten times the
# size of a last-level cache, so that a second visit finds nothing of the first.
DISTINCT = {"mlp": 20, "resnet18-224": 10, "vit-b": 4}


@dataclass(frozen=True)
class Case:
    """The parameters of one model, pulled to the anchors of T tasks with the weights of each."""

    op: str
    model: str
    T: int
    P: int
    dtype: str = "float32"

    @property
    def id(self) -> str:
        return f"{self.op}-{self.model}-T{self.T}-{self.dtype}"

    @property
    def flops(self) -> float:
        """Per task and parameter: difference, product with the weight, square and sum, sum of the gradient."""
        return 5.0 * self.T * self.P

    @property
    def distinct(self) -> int:
        return min(self.T, DISTINCT[self.model])

    def to_dict(self) -> dict:
        return asdict(self)


def order(row: dict) -> tuple:
    """Where a row stands in its result file."""
    return row["P"], row["dtype"], row["T"]


def penalties(*models: str, tasks: tuple[int, ...] = (1, 5, 10, 20)) -> tuple[Case, ...]:
    return tuple(Case("quadratic_penalty", model, T, PARAMETERS[model]) for model in models for T in tasks)


TINY = penalties("mlp", tasks=(3,))
QUICK = penalties("mlp", "resnet18-224", tasks=(10,))
GOALS = (*penalties("mlp", "resnet18-224"), *penalties("vit-b", tasks=(1, 10)))
FULL = penalties("mlp", "resnet18-224", "vit-b")
GPU = penalties("resnet18-224", "vit-b", tasks=(1, 10))

PRESETS = {"quick": QUICK, "goals": GOALS, "full": FULL, "gpu": GPU}
