"""`sup_con`: the contrastive loss whose positives share a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _inputs as inputs
from ._softmax import Terms, contrast
from .info_nce import REDUCTIONS, share, weight

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def sup_con(
    z: Any,
    labels: Any,
    scale: Any,
    *,
    weights: Any = None,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    process_group: ProcessGroup | None = None,
) -> Any:
    """Supervised contrastive loss (positives averaged outside the logarithm), without the N×N matrix.

    ``s = (scale * z @ z.T).fill_diagonal_(-inf);  P(i) = {j ≠ i: labels[j] = labels[i]}``
    ``L_i = s[i].logsumexp(0) - s[i, P(i)].mean();  mean over anchors that have a positive``

    Args:
        z: [N, D] torch tensor (any device) or NumPy array, usually of unit rows, all views together; float32, float16,
            bfloat16, or float64 (on torch). N = 0 is legal and gives 0.
        labels: integers [N], in any order. An anchor without a positive contributes 0 and leaves the mean; the paper's
            base temperature is a factor of the caller.
        scale: 1/temperature, a number or a 0-d tensor (with a gradient where it requires one); the paper: 1/0.1.
        weights: one per anchor ≥ 0, [N]: mean = Σ w L / Σ w over anchors with a positive. Constants.
        reduction: "mean" (default), "sum", or "none": w·L per anchor, [N].
        precision: "auto" (bfloat16 tiles for bfloat16 rows, else float32), "float32" or "bfloat16".
        backend: "auto" | "torch" | "native" | "triton"; one asked for by name never falls back.
        process_group: the rows are spread over these processes (torch.distributed): each hands in its own and gets the
            loss of all rows with the gradient of its own; conventions in `ring`. None (default): one process.

    Returns:
        0-d float32 (float64 for float64 rows) or [N]; for NumPy input a float or an array. NaN in z gives NaN.

    Raises:
        InputError: labels that do not fit, wrong shape or dtype, unknown word.
        BackendError: the backend asked for by name cannot run.
        RuntimeError: a derivative of the gradient was asked for.

    Reference: Khosla et al. 2020, eq. 2 (L_out).
    """
    if process_group is not None:
        from .ring import sup_con_ring

        return sup_con_ring(
            z,
            labels,
            scale,
            process_group=process_group,
            weights=weights,
            reduction=reduction,
            precision=precision,
            backend=backend,
        )
    inputs.check_word("reduction", reduction, REDUCTIONS)
    x = inputs.rows_of(z, "z")
    n = x.shape[0]
    precision = inputs.precision_of(precision, x)
    scale = inputs.scalar(scale, "scale")
    ids = inputs.integers(labels, "labels", n, x.device)
    counts = inputs.count_positives(ids, ids) - 1
    given = None if weights is None else inputs.weights_of(weights, "weights", n, x.device)
    terms = Terms(
        ids,
        ids,
        row_weight=weight(n, counts, given, 1.0, reduction),
        row_share=share(counts),
        reduce=reduction != "none",
        symmetric=True,
        precision=precision,
        backend=backend,
    )
    return inputs.give_back(contrast("sup_con", x, x, scale, terms), z)
