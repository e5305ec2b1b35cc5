"""Labels of a fitted set carried over to other rows: a vote of the nearest codes."""

from __future__ import annotations

import torch
from torch import Tensor

from pyfast_mmcl.ops.knn import knn


def neighbor_vote(z: Tensor, codes: Tensor, labels: Tensor, K: int, *, voters: int, width: Tensor | float) -> Tensor:
    """Soft assignments [b, K]: the labels of the nearest codes, weighed by ``softmax(−‖z − code‖² / width)``.

    z [b, d], codes [N, d], labels int64 [N] below K; ``voters`` codes vote for a row, ``width`` ≥ 0 is in squared units
    of the codes.
    """
    square, index = knn(z.float(), codes, min(voters, len(codes)))
    width = torch.as_tensor(width, dtype=square.dtype, device=square.device)
    # Relative to the nearest: far from all codes the weights would vanish together, and a width of 0 would give 0 / 0.
    excess = (square - square[:, :1]) / width.clamp_min(torch.finfo(square.dtype).tiny)
    return square.new_zeros(len(z), K).scatter_add_(1, labels[index], (-excess).softmax(1))
