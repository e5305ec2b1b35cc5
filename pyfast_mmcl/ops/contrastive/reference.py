"""The truth: the whole matrix of similarities in plain torch, in the precision of the rows that are handed in.

Same arguments and values as the ops of these names. Tests hand in float64 rows for the truth and low-precision rows for
the obvious computation; every function is differentiable as often as torch is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _reduce(loss: Tensor, has: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    w = has.to(loss.dtype) * (1 if weights is None else weights.to(loss.dtype))
    if reduction == "none":
        return loss * w
    total = (loss * w).sum()
    return total if reduction == "sum" or not bool(w.sum()) else total / w.sum()


def _rows(s: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    # Loss of every row, and whether it has a positive.
    count = positive.sum(1)
    if s.shape[1] == 0:
        return s.sum(1), count > 0
    lse = torch.where(s.isneginf().all(1), 0, s.logsumexp(1))
    return lse - torch.where(positive, s, 0).sum(1) / count.clamp(min=1), count > 0


def _labels(labels: Any, n: int, m: int) -> tuple[Tensor, Tensor]:
    if labels is None:
        return torch.arange(n), torch.arange(m)
    a, b = labels if isinstance(labels, tuple) else (labels, labels)
    return torch.as_tensor(a), torch.as_tensor(b)


def info_nce(
    a: Tensor,  # [N, D]
    b: Tensor,  # [M, D]
    scale: Any,
    *,
    direction: str = "both",
    labels: Any = None,
    weights: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """See `info_nce.info_nce`."""
    s = scale * (a @ b.T)
    row_ids, col_ids = _labels(labels, a.shape[0], b.shape[0])
    positive = (row_ids[:, None] == col_ids).to(s.device)
    w_a, w_b = weights if isinstance(weights, tuple) else (weights, weights)
    parts = []
    if direction != "ba":
        parts.append(_reduce(*_rows(s, positive), w_a, reduction))
    if direction != "ab":
        parts.append(_reduce(*_rows(s.T, positive.T), w_b, reduction))
    return sum(parts[1:], parts[0]) / len(parts)


def sup_con(z: Tensor, labels: Any, scale: Any, *, weights: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """See `sup_con.sup_con`."""
    own = torch.eye(z.shape[0], dtype=torch.bool, device=z.device)
    s = (scale * (z @ z.T)).masked_fill(own, -torch.inf)
    ids = torch.as_tensor(labels, device=z.device)
    return _reduce(*_rows(s, (ids[:, None] == ids) & ~own), weights, reduction)


def nt_xent(z: Tensor, scale: Any, *, reduction: str = "mean") -> Tensor:
    """See `nt_xent.nt_xent`."""
    n = z.shape[0]
    return sup_con(z, torch.arange(n) % max(n // 2, 1), scale, reduction=reduction)


def siglip(a: Tensor, b: Tensor, scale: Any, bias: Any, *, labels: Any = None, reduction: str = "mean") -> Tensor:
    """See `siglip.siglip`."""
    s = scale * (a @ b.T) + bias
    row_ids, col_ids = _labels(labels, a.shape[0], b.shape[0])
    positive = (row_ids[:, None] == col_ids).to(s.device)
    total = -F.logsigmoid(torch.where(positive, s, -s)).sum()
    return total / max(a.shape[0], 1) if reduction == "mean" else total


def similarity_kl(
    student_a: Tensor,  # [N, D]
    student_b: Tensor,  # [M, D]
    teacher_a: Tensor,
    teacher_b: Tensor,
    *,
    student_scale: Any,
    teacher_scale: Any,
    direction: str = "both",
    exclude_diagonal: bool = False,
    skip_wrong: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """See `similarity_kl.similarity_kl`."""
    s = student_scale * (student_a @ student_b.T)
    t = (teacher_scale * (teacher_a @ teacher_b.T)).detach()
    out = torch.eye(*s.shape, dtype=torch.bool, device=s.device) & exclude_diagonal
    parts = [
        _kl_rows(s_, t_, out_, skip_wrong)
        for word, s_, t_, out_ in (("ba", s, t, out), ("ab", s.T, t.T, out.T))
        if direction != word
    ]
    if reduction == "mean":
        parts = [p.sum() / max(p.shape[0], 1) for p in parts]
    elif reduction == "sum":
        parts = [p.sum() for p in parts]
    return sum(parts[1:], parts[0]) / len(parts)


def _kl_rows(s: Tensor, t: Tensor, out: Tensor, skip_wrong: bool) -> Tensor:
    s, t = s.masked_fill(out, -torch.inf), t.masked_fill(out, -torch.inf)
    gap = torch.where(out, 0, t.log_softmax(1) - s.log_softmax(1))
    kl = torch.where(out.all(1), 0, (t.softmax(1) * gap).sum(1))
    if not skip_wrong:
        return kl
    return torch.where((t > t.diagonal()[:, None]).any(1), 0, kl)


def relation_distance(
    student: Tensor, teacher: Tensor, *, kind: str = "distance", delta: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """See `relation_distance.relation_distance`."""
    relation = _distances if kind == "distance" else _angles
    with torch.no_grad():
        target = relation(teacher)
    loss = F.huber_loss(relation(student), target, delta=delta, reduction="sum")
    return loss / max(target.numel(), 1) if reduction == "mean" else loss


def _lengths(x: Tensor) -> tuple[Tensor, Tensor]:
    # Differences [N, N, D] and their lengths, without the infinite slope of a root at zero.
    gap = x[None, :] - x[:, None]
    square = gap.square().sum(-1)
    apart = square > 0
    return gap, torch.where(apart, torch.where(apart, square, 1).sqrt(), torch.where(square.isnan(), square, 0))


def _distances(x: Tensor) -> Tensor:
    d = _lengths(x)[1]
    positive = ~(d == 0)
    return d / (d.sum() / positive.sum()) if bool(positive.any()) else d


def _angles(x: Tensor) -> Tensor:
    gap, length = _lengths(x)  # gap[j, i] = x_i − x_j
    apart = (length != 0)[..., None]
    unit = torch.where(apart, gap / torch.where(apart, length[..., None], 1), 0)
    return unit @ unit.mT
