"""`info_nce`: the contrastive loss of two sets of rows, in one or both directions."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._errors import InputError
from . import _inputs as inputs
from ._packed import PackedReference
from ._softmax import Terms, contrast

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

REDUCTIONS = ("mean", "sum", "none")


def info_nce(
    a: Any,
    b: Any,
    scale: Any,
    *,
    direction: str = "both",
    labels: Any = None,
    weights: Any = None,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    process_group: ProcessGroup | None = None,
) -> Any:
    """InfoNCE of a against b, and of b against a, without the N×M matrix; forward and backward in O((N + M)·D) memory.

    ``s = scale * a @ b.T;  L_ab = cross_entropy(s, arange(N));  L_ba = cross_entropy(s.T, arange(N))``
    ``both: (L_ab + L_ba) / 2``; with several positives L_i = logsumexp_j s_ij − mean_{j positive} s_ij.

    Args:
        a: [N, D] torch tensor (any device) or NumPy array; float32, float16, bfloat16, or float64 (on torch).
            Rows are used as they are: normalise them for cosine similarity. N = 0 is legal and gives 0.
        b: [M, D], same kind and device; or `PackedReference`, frozen rows packed once.
        scale: 1/temperature = exp(logit_scale), a number or a 0-d tensor; 14.3 at the start and at most 100 in CLIP.
            A tensor that requires it gets a gradient.
        direction: "both" (CLIP), "ab" (rows of a only) or "ba" (rows of b only).
        labels: None: row i of a belongs to row i of b (N = M). Else integers [N] used for both sides, or a pair
            (labels_a [N], labels_b [M]): equal labels are positives, any number of them. A row without a positive
            contributes 0 and leaves the mean.
        weights: one per row ≥ 0 (not checked), [N]; a pair (w_a [N], w_b [M]) weighs the directions apart. Constants.
            mean = Σ w L / Σ w over rows with a positive.
        reduction: "mean" (default), "sum", or "none": w·L per row, [N] ("ab"), [M] ("ba"), ½(L_ab + L_ba) ("both").
        precision: "auto" (bfloat16 tiles for bfloat16 rows, else float32), "float32" or "bfloat16" (rows and the
            gradient of s rounded to bfloat16, sums in float32).
        backend: "auto" | "torch" | "native" | "triton"; one asked for by name never falls back.
        process_group: the rows are spread over these processes (torch.distributed): each hands in its own and gets the
            loss of all rows with the gradient of its own; conventions in `ring`. None (default): one process.

    Returns:
        0-d float32 (float64 for float64 rows), or per row; for NumPy input a float or an array. NaN in a row gives NaN.

    Raises:
        InputError: wrong shape, dtype, device mix, N ≠ M without labels, unknown word.
        BackendError: the backend asked for by name cannot run.
        RuntimeError: a derivative of the gradient was asked for.

    Reference: van den Oord et al. 2018, eq. 4; Radford et al. 2021 (CLIP), fig. 3. The maths: docs/kernels.md.
    """
    if process_group is not None:
        from .ring import info_nce_ring

        return info_nce_ring(
            a,
            b,
            scale,
            process_group=process_group,
            direction=direction,
            labels=labels,
            weights=weights,
            reduction=reduction,
            precision=precision,
            backend=backend,
        )
    inputs.check_word("direction", direction, inputs.DIRECTIONS)
    inputs.check_word("reduction", reduction, REDUCTIONS)
    x, y = inputs.pair_of(a, b)
    precision = inputs.precision_of(precision, x, b)
    scale = inputs.scalar(scale, "scale")
    n, m = x.shape[0], y.shape[0]
    if n != m and labels is not None and direction == "both" and reduction == "none":
        raise InputError(
            f'reduction="none": expected as many rows in a as in b for both directions, got {n} and {m}; '
            'use direction="ab" or "ba".'
        )
    terms = _terms(x, m, direction, labels, weights, reduction, precision, backend)
    if isinstance(b, PackedReference):
        terms = terms._replace(packed=b)
    return inputs.give_back(contrast("info_nce", x, y, scale, terms), a)


def _terms(
    x: Tensor, m: int, direction: str, labels: Any, weights: Any, reduction: str, precision: str, backend: str
) -> Terms:
    n, device = x.shape[0], x.device
    rows, cols = direction != "ba", direction != "ab"
    half = 0.5 if direction == "both" else 1.0
    row_counts = col_counts = None
    if labels is None:
        row_ids, col_ids = inputs.own_ids(n, m, device)
    else:
        row_ids, col_ids = inputs.labels_of(labels, n, m, device)
        row_counts = inputs.count_positives(row_ids, col_ids) if rows else None
        col_counts = inputs.count_positives(col_ids, row_ids) if cols else None
    row_given, col_given = _weights_of_sides(weights, n, m, direction, device)
    return Terms(
        row_ids,
        col_ids,
        weight(n, row_counts, row_given, half, reduction) if rows else None,
        weight(m, col_counts, col_given, half, reduction) if cols else None,
        share(row_counts),
        share(col_counts),
        reduction != "none",
        False,
        precision,
        backend,
    )


def _weights_of_sides(
    weights: Any, n: int, m: int, direction: str, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    if weights is None:
        return None, None
    if isinstance(weights, tuple) and len(weights) == 2 and not isinstance(weights[0], numbers.Real):
        return (
            inputs.weights_of(weights[0], "weights[0]", n, device),
            inputs.weights_of(weights[1], "weights[1]", m, device),
        )
    if direction == "both" and n != m:
        raise InputError(
            f"weights: {n} rows against {m} need a pair (weights_a [{n}], weights_b [{m}]), got one sequence."
        )
    w = inputs.weights_of(weights, "weights", m if direction == "ba" else n, device)
    return w, w


def share(counts: Tensor | None) -> Tensor | None:
    """1/|P(i)| float64, 0 for rows without positives; None where every row has exactly one."""
    return None if counts is None else torch.where(counts > 0, 1.0 / counts.double(), 0.0)


def weight(n: int, counts: Tensor | None, given: Tensor | None, part: float, reduction: str) -> Any:
    """What L_i is multiplied with in the result: a float, or float64 [N] or 0-d."""
    if counts is None and given is None:
        return part / max(n, 1) if reduction == "mean" else part
    has = 1.0 if counts is None else (counts > 0).double()
    w: Tensor = has if given is None else given * has  # type: ignore[assignment]
    if reduction == "mean":
        total = w.sum()
        w = w / torch.where(total == 0, 1.0, total)
    return w * part
