"""The pair primitives on CUDA tensors in Triton, and whether they can run.

| what                                      | file                                  |
|-------------------------------------------|---------------------------------------|
| plans, operands, one similarity tile      | tile_triton.py                        |
| row and column statistics                 | pair_stats_triton.py, merge_triton.py |
| dS of a tile                              | pull_triton.py                        |
| gradients: strips of dS and their products| pair_grads_triton.py, strip_triton.py |
| gradients of short rows, in registers     | pair_fused_triton.py                  |
| SigLIP                                    | siglip_triton.py                      |
| student and teacher                       | kl_stats_triton.py, kl_grads_triton.py|

Sums run in a fixed order without atomics: the same inputs give the same bits. ``precision="auto"`` multiplies 16-bit
rows as they are and float32 rows on tensor cores in three TF32 products each, "float32" on the CUDA cores; what torch
is told to allow for its own products changes neither.
"""

from __future__ import annotations

from typing import Any

import torch

from .. import _triton_device
from . import pairs_torch
from ._pairs import Pull
from .kl_grads_triton import kl_grads
from .kl_stats_triton import kl_stats
from .pair_grads_triton import pair_grads
from .pair_stats_triton import pair_stats, pair_stats_kernel
from .siglip_triton import siglip_pass

__all__ = ["available", "kl_grads", "kl_stats", "pair_grads", "pair_stats", "siglip_pass"]

# Verdict and reason per device, so that a failed self-check is reported the same way ever after.
_verdicts: dict[torch.device, tuple[bool, str]] = {}


def available(device: torch.device | str) -> tuple[bool, str]:
    """Whether the kernels run on ``device``, and why not. The first call on a GPU checks them on a tiny problem."""
    return _triton_device.available(device, pair_stats_kernel, _verdicts, _first_use)


def _first_use(device: torch.device) -> tuple[bool, str]:
    return _triton_device.first_use(device, "contrastive", self_check)


def _far(ours: torch.Tensor | None, truth: torch.Tensor | None, share: float) -> bool:
    assert ours is not None and truth is not None
    error = (ours.double() - truth).abs().max()
    return not bool(error <= share * truth.abs().max())


def self_check(device: torch.device) -> str:
    """Run a fixed small problem against float64 tiles in torch: the name of what differs, or ""."""
    for dtype, D, share in ((torch.float32, 40, 1e-4), (torch.bfloat16, 200, 3e-2)):
        cells = torch.arange(300 * D, device=device)
        # Small integers: the similarities are exact in every type.
        x = ((cells * 7919) % 1009 % 7 - 3).to(dtype).view(300, D)
        a, b, scale = x[:130], x[130:], 1 / D
        ids: dict[str, Any] = {"row_ids": torch.arange(130, device=device), "col_ids": torch.arange(170, device=device)}
        truth = pairs_torch.pair_stats(a.double(), b.double(), scale, **ids)
        pulls, short = [], []
        for side, true in zip(pair_stats(a, b, scale, **ids), truth, strict=True):
            assert side is not None and true is not None
            exact = true.max + true.sum.log()
            if _far(side.max + side.sum.log(), exact, 1e-5) or _far(side.pos, true.pos, 1e-5):
                return f"statistics of {dtype} rows"
            pulls.append(Pull(true.max, 1 / true.sum, torch.ones_like(true.sum)))
            short.append(Pull(side.max, (1 / side.sum).float(), torch.ones_like(side.max)))
        true_grads = pairs_torch.pair_grads(a.double(), b.double(), scale, *pulls, **ids)
        grads = pair_grads(a, b, scale, *short, **ids)
        if any(_far(ours, true, share) for ours, true in zip(grads, true_grads, strict=True)):
            return f"gradients of {dtype} rows"
    return ""
