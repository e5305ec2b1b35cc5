"""`nt_xent`: SimCLR's loss over two views of every example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..._errors import InputError
from . import _inputs as inputs
from ._softmax import Terms, contrast
from .info_nce import REDUCTIONS, weight

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def nt_xent(
    z: Any,
    scale: Any,
    *,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    process_group: ProcessGroup | None = None,
) -> Any:
    """NT-Xent of N examples in two views, without the 2N×2N matrix and with only half of its products.

    ``s = (scale * z @ z.T).fill_diagonal_(-inf);  cross_entropy(s, (arange(2 * N) + N) % (2 * N))``

    Args:
        z: [2N, D] torch tensor (any device) or NumPy array, usually of unit rows; rows i and i + N are the two views of
            example i. float32, float16, bfloat16, or float64 (on torch). N = 0 is legal and gives 0.
        scale: 1/temperature, a number or a 0-d tensor (with a gradient where it requires one); SimCLR: 1/0.5 to 1/0.1.
        reduction: "mean" (default), "sum", or "none": [2N].
        precision: "auto" (bfloat16 tiles for bfloat16 rows, else float32), "float32" or "bfloat16".
        backend: "auto" | "torch" | "native" | "triton"; one asked for by name never falls back.
        process_group: the rows are spread over these processes (torch.distributed): each hands in its own and gets the
            loss of all rows with the gradient of its own; conventions in `ring`. None (default): one process.

    Returns:
        0-d float32 (float64 for float64 rows) or [2N]; for NumPy input a float or an array. NaN in z gives NaN.

    Raises:
        InputError: an odd number of rows, wrong shape or dtype, unknown word.
        BackendError: the backend asked for by name cannot run.
        RuntimeError: a derivative of the gradient was asked for.

    Reference: Chen et al. 2020 (SimCLR), eq. 1.
    """
    if process_group is not None:
        from .ring import nt_xent_ring

        return nt_xent_ring(
            z,
            scale,
            process_group=process_group,
            reduction=reduction,
            precision=precision,
            backend=backend,
        )
    inputs.check_word("reduction", reduction, REDUCTIONS)
    x = inputs.rows_of(z, "z")
    n = x.shape[0]
    if n % 2:
        raise InputError(f"z: expected an even number of rows, view one of every example and then view two, got {n}.")
    precision = inputs.precision_of(precision, x)
    scale = inputs.scalar(scale, "scale")
    ids = torch.arange(n, device=x.device) % max(n // 2, 1)
    terms = Terms(
        ids,
        ids,
        row_weight=weight(n, None, None, 1.0, reduction),
        reduce=reduction != "none",
        symmetric=True,
        precision=precision,
        backend=backend,
    )
    return inputs.give_back(contrast("nt_xent", x, x, scale, terms), z)
