"""What the tests of the Triton kernels share: where they run, small plans, the whole matrix as the truth."""

import os
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
# NumPy, which the interpreter computes with, warns about the NaN and infinities that belong to these tests.
MARKS = [pytest.mark.filterwarnings("ignore::RuntimeWarning")] if INTERPRETED else [pytest.mark.gpu]


def need_kernels() -> None:
    """Skip a module where its kernels can neither be compiled nor interpreted."""
    pytest.importorskip("triton")
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; test_pairs_triton.py runs it in the interpreter", allow_module_level=True)


def small_plan(**changes: Any) -> Any:
    """Tiles of 32, strips of two row blocks, partial statistics of few: every loop runs more than once."""
    from pyfast_mmcl.ops.contrastive.tile_triton import Plan

    plan = Plan(block=32, block_d=32, group=2, fused_d=0, fused_block=16, strip_bytes=2 * 32 * 64 * 4, programs=4)
    return replace(plan, **{"partial_bytes": 24 * 64 * 4, **changes})


def rows(n: int, D: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit rows, the same on every device."""
    x = F.normalize(torch.randn(n, D, generator=torch.Generator().manual_seed(seed)), dim=1)
    return x.to(DEVICE, dtype)


def ids(n: int, classes: int, *, seed: int = 0) -> Tensor:
    """Class labels, far apart and partly negative."""
    labels = torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(seed))
    return ((labels - 2) * 10_000_000_019).to(DEVICE)


@dataclass
class Matrix:
    """The whole matrix of similarities, in the precision of ``wide``."""

    a: Tensor
    b: Tensor
    scale: float
    row_ids: Tensor
    col_ids: Tensor
    exclude_self: bool = False
    row_offset: int = 0
    col_offset: int = 0
    wide: torch.dtype = torch.float64

    @property
    def dots(self) -> Tensor:
        return self.a.to(self.wide) @ self.b.to(self.wide).T

    @property
    def out(self) -> Tensor:
        i = torch.arange(len(self.a), device=self.a.device)[:, None] + self.row_offset
        j = torch.arange(len(self.b), device=self.a.device) + self.col_offset
        return (i == j) & self.exclude_self

    @property
    def s(self) -> Tensor:
        return (self.dots * self.scale).masked_fill(self.out, -torch.inf)

    @property
    def positive(self) -> Tensor:
        return (self.row_ids[:, None] == self.col_ids) & ~self.out

    def sides(self) -> list[tuple[Tensor, Tensor]]:
        """(log-sum-exp, Σ of positive s) of rows and columns."""
        picked = torch.where(self.positive, self.s, 0)
        return [(self.s.logsumexp(dim), picked.sum(dim)) for dim in (1, 0)]

    def gradients(self, row: Any, col: Any, rounded: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """da, db, dscale of two pulls; dS ``rounded`` to a narrow type as the obvious computation would."""
        ds = torch.zeros_like(self.s)
        for pull, where in ((row, (slice(None), None)), (col, (None, slice(None)))):
            if pull is not None:
                m, coef, pos = (x.to(self.wide)[where] for x in (pull.max, pull.coef, pull.pos))
                ds += (self.s - m).exp() * coef - torch.where(self.positive, pos, 0)
        ds = ds.masked_fill(self.out, 0)
        low = ds if rounded is None else ds.to(rounded).to(self.wide)
        a, b = self.a.to(self.wide), self.b.to(self.wide)
        return self.scale * (low @ b), self.scale * (low.T @ a), (ds * self.dots).sum()
