"""Loss and gradients in float64, from the definitions, in blocks of rows: the whole matrix never exists.

Gradients of rows are computed for a sample of them only; every one of these sums over all pairs of its row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.families.contrastive.cases import VIEWS, Case
from benchmarks.families.contrastive.data import BIAS, SCALE

BLOCK = 1_024
SAMPLE = 64  # rows of each side whose gradient is checked


def truth_of(case: Case, arrays: dict) -> dict[str, np.ndarray]:
    """`loss`, `sample` [S] and for every differentiable input `grad_<name>`: [S, D], or a number."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = {name: torch.tensor(np.asarray(array), device=device) for name, array in arrays.items()}
    rows = {name: row if name == "labels" else row.double() for name, row in rows.items()}
    sample = np.unique(np.linspace(0, case.rows - 1, SAMPLE).astype(np.int64))
    chosen = torch.from_numpy(sample).to(device)
    if case.op in VIEWS:
        found = _views(rows, SCALE[case.op], chosen)
    elif case.op == "similarity_kl":
        found = _similarity_kl(case, rows, SCALE[case.op], chosen)
    else:
        found = {"info_nce": _info_nce, "siglip": _siglip}[case.op](rows["a"], rows["b"], SCALE[case.op], chosen)
    return {"sample": sample} | {name: value.cpu().numpy() for name, value in found.items()}


Matrix = Callable[[Tensor, Tensor], Tensor]  # (row ids [n], column ids [m]) → [n, m]


def _blocks(count: int, like: Tensor) -> list[Tensor]:
    return list(torch.arange(count, device=like.device).split(BLOCK))


def _lse(similarity: Matrix, N: int, M: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of every row [N] and of every column [M]."""
    everyone, rows = torch.arange(M, device=like.device), []
    columns = torch.full((M,), -torch.inf, dtype=torch.float64, device=like.device)
    for block in _blocks(N, like):
        s = similarity(block, everyone)
        rows.append(torch.logsumexp(s, 1))
        columns = torch.logaddexp(columns, torch.logsumexp(s, 0))
    return torch.cat(rows), columns


def _row_gradients(slope: Matrix, a: Tensor, b: Tensor, scale: float, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the chosen rows of both sides: `slope` gives ∂L/∂s."""
    left, right = (torch.arange(len(side), device=a.device) for side in (a, b))
    return scale * slope(chosen, right) @ b, scale * slope(left, chosen).T @ a


def _info_nce(a: Tensor, b: Tensor, scale: float, chosen: Tensor) -> dict[str, Tensor]:
    """(mean_i (lse_j s_ij − s_ii) + mean_j (lse_i s_ij − s_jj)) / 2."""
    N = len(a)
    row_lse, column_lse = _lse(lambda i, j: scale * a[i] @ b[j].T, N, N, a)
    loss = (row_lse + column_lse).mean() / 2 - scale * (a * b).sum(1).mean()

    def slope(i: Tensor, j: Tensor) -> Tensor:
        s = scale * a[i] @ b[j].T
        softmaxes = torch.exp(s - row_lse[i, None]) + torch.exp(s - column_lse[j])
        return (softmaxes / 2 - (i[:, None] == j).double()) / N

    everyone = torch.arange(N, device=a.device)
    d_scale = sum((slope(i, everyone) * (a[i] @ b.T)).sum() for i in _blocks(N, a))
    d_a, d_b = _row_gradients(slope, a, b, scale, chosen)
    return {"loss": loss, "grad_a": d_a, "grad_b": d_b, "grad_scale": d_scale}


def _siglip(a: Tensor, b: Tensor, scale: float, chosen: Tensor) -> dict[str, Tensor]:
    """Σ_ij softplus(−y_ij (scale ⟨a_i, b_j⟩ + bias)) / N, y = 1 for pairs and −1 elsewhere."""
    N = len(a)

    def signed(i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        y = 2 * (i[:, None] == j).double() - 1
        return y, y * (scale * a[i] @ b[j].T + BIAS)

    def slope(i: Tensor, j: Tensor) -> Tensor:
        y, ys = signed(i, j)
        return -y * torch.sigmoid(-ys) / N

    everyone = torch.arange(N, device=a.device)
    loss = d_scale = d_bias = torch.zeros((), dtype=torch.float64, device=a.device)
    for i in _blocks(N, a):
        loss = loss + F.softplus(-signed(i, everyone)[1], threshold=1e9).sum() / N
        d_s = slope(i, everyone)
        d_scale, d_bias = d_scale + (d_s * (a[i] @ b.T)).sum(), d_bias + d_s.sum()
    d_a, d_b = _row_gradients(slope, a, b, scale, chosen)
    return {"loss": loss, "grad_a": d_a, "grad_b": d_b, "grad_scale": d_scale, "grad_bias": d_bias}


def _views(rows: dict[str, Tensor], scale: float, chosen: Tensor) -> dict[str, Tensor]:
    """mean_i (lse_{j≠i} s_ij − mean_{p∈P(i)} s_ip) over rows with a positive, s = scale · cosine; the gradient goes
    through the normalisation."""
    z = rows["z"]
    count = len(z)
    u = F.normalize(z, dim=1)
    labels = rows.get("labels", torch.arange(count, device=z.device) % (count // 2))
    per_label = torch.unique(labels, return_inverse=True, return_counts=True)
    positives = per_label[2][per_label[1]] - 1  # |P(i)|
    weight = (positives > 0).double() / (positives > 0).sum()

    def similarity(i: Tensor, j: Tensor) -> Tensor:
        return (scale * u[i] @ u[j].T).masked_fill(i[:, None] == j, -torch.inf)

    lse, _ = _lse(similarity, count, count, z)

    def slope(i: Tensor, j: Tensor) -> Tensor:
        positive = (labels[i, None] == labels[j]) & (i[:, None] != j)
        share = positive.double() / positives.clamp(min=1)[i, None]
        return weight[i, None] * (torch.exp(similarity(i, j) - lse[i, None]) - share)

    sums = torch.zeros(len(per_label[0]), z.shape[1], dtype=torch.float64, device=z.device)
    sums = sums.index_add_(0, per_label[1], u)[per_label[1]]
    of_positives = scale * ((u * sums).sum(1) - (u * u).sum(1)) / positives.clamp(min=1)
    d_rows, d_columns = _row_gradients(slope, u, u, scale, chosen)
    d_u, own = d_rows + d_columns, u[chosen]
    d_z = (d_u - own * (own * d_u).sum(1, keepdim=True)) / z[chosen].norm(dim=1, keepdim=True)
    return {"loss": (weight * (lse - of_positives)).sum(), "grad_z": d_z}


def _similarity_kl(case: Case, rows: dict[str, Tensor], scale: float, chosen: Tensor) -> dict[str, Tensor]:
    """mean_i KL(softmax_j t_ij ‖ softmax_j s_ij); for both directions the mean of it over rows and over columns."""
    a, t_a = rows["student_a"], rows["teacher_a"]
    b, t_b = (rows.get("bank", rows.get(name)) for name in ("student_b", "teacher_b"))
    N, M = len(a), len(b)
    student, teacher = (lambda i, j: scale * a[i] @ b[j].T), (lambda i, j: scale * t_a[i] @ t_b[j].T)
    s_lse, t_lse = _lse(student, N, M, a), _lse(teacher, N, M, a)
    everyone, loss = torch.arange(M, device=a.device), torch.zeros((), dtype=torch.float64, device=a.device)
    sides = ("rows",) if case.direction == "ab" else ("rows", "columns")

    def softmaxes(i: Tensor, j: Tensor, side: str) -> tuple[Tensor, Tensor]:
        """Logarithms of the student's and of the teacher's softmax."""
        k, at = (0, (i[:, None],)) if side == "rows" else (1, (j,))
        return student(i, j) - s_lse[k][at], teacher(i, j) - t_lse[k][at]

    for side in sides:
        for i in _blocks(N, a):
            log_s, log_t = softmaxes(i, everyone, side)
            loss = loss + (log_t.exp() * (log_t - log_s)).sum() / (N if side == "rows" else M) / len(sides)

    def slope(i: Tensor, j: Tensor) -> Tensor:
        total = torch.zeros(len(i), len(j), dtype=torch.float64, device=a.device)
        for side in sides:
            log_s, log_t = softmaxes(i, j, side)
            total += (log_s.exp() - log_t.exp()) / (N if side == "rows" else M) / len(sides)
        return total

    if case.M:
        return {"loss": loss, "grad_student_a": scale * slope(chosen, everyone) @ b}
    d_a, d_b = _row_gradients(slope, a, b, scale, chosen)
    return {"loss": loss, "grad_student_a": d_a, "grad_student_b": d_b}
