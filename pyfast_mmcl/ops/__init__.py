"""Operations on tensors: one folder per family; the only room that knows compiled kernels and Triton."""

from __future__ import annotations

from typing import Any

__all__ = ["backends"]


def backends() -> list[dict[str, Any]]:
    """Which implementation of every op runs here: rows {op, device, backend, available, reason} in order of preference.

    The list is asked for a small float32 input on the CPU, and on the GPU where torch sees one.
    """
    import torch

    from ._backend import explain
    from .knn import _dispatch

    rows = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        sample = torch.zeros(1, 1, device=device)
        for op in ("knn", "nearest", "lloyd_step"):
            for backend, available, reason in explain(_dispatch.candidates(sample)):
                rows.append({"op": op, "device": device, "backend": backend, "available": available, "reason": reason})
    return rows
