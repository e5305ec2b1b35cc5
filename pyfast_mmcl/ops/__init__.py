"""Operations on tensors: one folder per family; the only room that knows compiled kernels and Triton."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["backends"]


def backends() -> list[dict[str, Any]]:
    """Which implementation of every op runs here: rows {op, device, backend, available, reason} in order of preference.

    The list is asked for a small float32 input on the CPU, and on the GPU where torch sees one.
    """
    import torch

    from ._backend import explain
    from .contrastive import _dispatch as contrastive
    from .fisher import _dispatch as fisher
    from .knn import _dispatch as knn
    from .sampling import _dispatch as sampling

    families: tuple[tuple[Callable[..., Any], tuple[str, ...]], ...] = (
        (knn.candidates, ("knn", "nearest", "lloyd_step")),
        (contrastive.candidates, ("info_nce", "nt_xent", "sup_con", "siglip", "similarity_kl")),
        (lambda x: fisher.candidates(x, *[x.expand(2, 2, 1)] * 2), ("outer_square_accumulate", "fisher_diagonal")),
        (lambda x: fisher.penalty_candidates(*[[x]] * 3), ("quadratic_penalty",)),
        *[(functools.partial(sampling.candidates, op), (op,)) for op in sampling.OPS],
    )
    rows = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        sample = torch.zeros(1, 1, device=device)
        for candidates, ops in families:
            found = explain(candidates(sample))
            for op in ops:
                rows += [{"op": op, "device": device, "backend": b, "available": a, "reason": r} for b, a, r in found]
    return rows
