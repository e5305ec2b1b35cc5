"""First centres from growing samples: drawn on a small one, moved on a larger one.

Reference: Bradley and Fayyad, *Refining initial points for k-means clustering*, ICML 1998; Newling and Fleuret, *Nested
mini-batch k-means*, NeurIPS 2016 (nested, growing samples).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.inputs import Rows
from pyfast_mmcl.clustering.lloyd import lloyd
from pyfast_mmcl.clustering.plus_plus import plus_plus_in_parts

_SEEDS = 64  # rows per centre of the first sample, which centres are drawn from
_STAGES = (256,)  # rows per centre of the samples they are moved on, each a part of the next
# Few iterations: centres that have settled on a sample fit its accidents, and all rows take long to move them on.
# Measured on a million rows (D = 128, K = 1000): eight iterations on each of samples of 32, 128 and 512 rows per centre
# leave a higher inertia than four on one of 256, by 0.04 % after 12 iterations on all rows of one heap, and by 0.4 %
# after 8 on 3,000 overlapping groups.
_ITERATIONS = 4
_LEAST = 16  # rows per centre, however little memory that leaves …
_BYTES = 2**28  # … while beyond it samples stay within this


def growing_centers(
    rows: Rows, K: int, rng: np.random.Generator, *, weights: np.ndarray, metric: str, backend: str = "auto"
) -> Tensor:
    """Centres [K, D]: k-means++ (in parts) on a small sample of ``rows``, then a few of Lloyd's iterations on a larger
    one, of which it is a part.

    Args:
        rows: [N, D]; unit (or zero) rows for cosine.
        weights: [N], 0 for rows that may not be drawn (directions that do not exist).
    """
    able = np.flatnonzero(weights > 0)
    sizes = sample_sizes(len(able), K, rows.shape[1])
    if sizes[0] <= K:
        everything = Rows(rows.take(np.arange(rows.total)), rows.center_dtype)
        return plus_plus_in_parts(everything, K, rng, weights=weights, backend=backend)
    order = rng.choice(able, size=sizes[-1], replace=False)
    sample = torch.empty(sizes[-1], rows.shape[1], dtype=rows.center_dtype, device=rows.device)
    centers = None
    for before, size in zip([0, *sizes], sizes, strict=False):
        # In ascending order: a memory map is read forwards.
        sample[before:size] = rows.take(np.sort(order[before:size]))
        stage = Rows(sample[:size], rows.center_dtype)
        if centers is None:
            centers = plus_plus_in_parts(stage, K, rng, backend=backend)
            continue
        centers = lloyd(stage, centers, metric=metric, backend=backend, max_iter=_ITERATIONS).centers
    assert centers is not None
    return centers


def sample_sizes(N: int, K: int, D: int) -> list[int]:
    """Growing sizes of the samples, within the memory allowed and half of the rows."""
    allowed = max(_BYTES // (4 * D), _LEAST * K)
    return sorted({min(rows * K, allowed, max(N // 2, min(N, _LEAST * K))) for rows in (_SEEDS, *_STAGES)})
