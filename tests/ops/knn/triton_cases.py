"""What the tests of the Triton kernels share: where they run, small plans, float64 truth."""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
# NumPy, which the interpreter computes with, warns about the NaN and infinities that belong to these tests.
MARKS = [pytest.mark.filterwarnings("ignore::RuntimeWarning")] if INTERPRETED else [pytest.mark.gpu]
METRICS = ("l2", "ip", "cosine")


def need_kernels() -> None:
    """Skip a module where its kernels can neither be compiled nor interpreted."""
    pytest.importorskip("triton")
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; test_search_triton.py runs it in the interpreter", allow_module_level=True)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def truth(q: torch.Tensor, x: torch.Tensor, k: int, metric: str, exclude_self: bool = False):
    """float64 scores and ids by direct computation; ties by smaller index, NaN last."""
    q, x = q.double(), x.double()
    key = (q[:, None] - x).square().sum(-1) if metric == "l2" else -(q[:, None] * x).sum(-1)
    if metric == "cosine":
        norms = q.norm(dim=1)[:, None] * x.norm(dim=1)
        key = torch.where(norms == 0, norms, key / norms)
    ids = torch.arange(len(x), device=q.device).expand(len(q), -1)
    if exclude_self:
        key = key.masked_fill(ids == torch.arange(len(q), device=q.device)[:, None], torch.nan)
    key, order = key.sort(dim=1, stable=True)
    found = min(k, len(x) - exclude_self)
    scores = torch.full((len(q), k), torch.inf, dtype=torch.float64, device=q.device)
    best = torch.full((len(q), k), -1, device=q.device)
    scores[:, :found], best[:, :found] = key[:, :found], order[:, :found]
    return (scores if metric == "l2" else -scores), best
