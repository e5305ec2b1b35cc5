"""`fold_quadratics`: the penalties of many tasks as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .penalty import check_alike

Tensors = Tensor | Sequence[Tensor]


def fold_quadratics(
    anchor: Tensors, weight: Tensors, new_anchor: Tensors, new_weight: Tensors, constant: float = 0.0
) -> tuple[Tensors, Tensors, float]:
    """Add one anchored quadratic to another, exactly.

    ``weight*(θ-anchor)² + constant + new_weight*(θ-new_anchor)² == W*(θ-m)² + c  # for every θ, summed``
    ``W = weight + new_weight; w = new_weight / W; m = anchor + w*(new_anchor-anchor); c = constant + Σ weight*w*(…)²``

    Where both weights are 0 the new anchor is taken. Start with zeros as ``weight``: the first task then sets all.

    Args:
        anchor, weight: the quadratic so far, tensors or lists of tensors, float32 (or float64).
        new_anchor, new_weight: the quadratic of the new task, same shapes, any float dtype; weights ≥ 0.
        constant: c so far, a Python float (float64).

    Returns:
        (anchor, weight, constant), new tensors in the precision of ``anchor`` and ``weight``, at least float32.

    Raises:
        InputError: lists of different lengths, or shapes or devices that differ.

    Reference: docs/kernels.md; Huszár, On quadratic penalties in elastic weight consolidation, PNAS 2018.
    """
    single = isinstance(anchor, Tensor)
    lists = {"anchor": anchor, "weight": weight, "new_anchor": new_anchor, "new_weight": new_weight}
    parts = {name: [x] if isinstance(x, Tensor) else list(x) for name, x in lists.items()}
    check_alike(parts)
    anchors, weights = [], []
    with torch.no_grad():
        for old in zip(*parts.values(), strict=True):
            mean, total, cost = _fold(*old)
            anchors.append(mean)
            weights.append(total)
            constant += cost
    return (anchors[0], weights[0], constant) if single else (anchors, weights, constant)


def _fold(anchor: Tensor, weight: Tensor, new_anchor: Tensor, new_weight: Tensor) -> tuple[Tensor, Tensor, float]:
    wide = torch.float64 if torch.float64 in (anchor.dtype, weight.dtype) else torch.float32
    anchor, weight, new_weight = anchor.to(wide), weight.to(wide), new_weight.to(wide)
    step = new_anchor.to(wide) - anchor
    total = weight + new_weight
    share = torch.where(total == 0, torch.ones_like(total), new_weight / total)
    cost = float((weight.double() * share.double() * step.double().square()).sum())
    mean = torch.where(share == 1, new_anchor.to(wide), torch.addcmul(anchor, share, step))
    return mean, total, cost
