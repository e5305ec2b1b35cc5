"""`Nearer`: which rows would a new centre attract? Screened by a matrix product, decided by the exact op.

Drawing centres one by one asks this K times about all rows, but each new centre attracts only a few. The screen bounds
its own rounding error, so that no attracted row is missed and what is returned does not depend on how the product was
rounded, hence not on the number of threads either.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl.clustering.inputs import CACHE_BYTES, Rows, slices
from pyfast_mmcl.ops.knn import nearest

_SCREEN_BYTES = 2**26  # of one block of rows in the screen
_GATHER_BYTES = 2**25  # of one block of rows that passed it
# What a global setting of torch lets a float32 product do to its inputs first.
_INPUT_ROUNDOFF = {"none": 0.0, "ieee": 0.0, "tf32": 2.0**-11, "bf16": 2.0**-8}
_DISTANCE_ROUNDING = 1e-6  # of the op's float32 distances, relative


class Nearer:
    """Squared Euclidean distances of ``rows`` to candidates, computed only where they undercut a given cost."""

    def __init__(self, rows: Rows, *, backend: str = "auto") -> None:
        self._rows, self._backend = rows, backend
        self._square = np.concatenate([_squares(block) for _, block in rows.blocks()])  # [N]
        self._slope = _product_error(rows) * np.sqrt(self._square)
        self._smallest = rows.shape[1] * 1e-44  # products below float32's range vanish

    def find(self, candidates: Tensor, cost: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each candidate [L, D] the rows with ``((x - candidate) ** 2).sum() < cost`` and these values in float64.

        ``cost`` [N] float64 may hold infinity.
        """
        found = []
        for candidate, maybe in zip(candidates, self._screen(candidates, cost), strict=True):
            exact = self._exact(maybe, candidate)
            closer = exact < cost[maybe]
            found.append((maybe[closer], exact[closer]))
        return found

    def _screen(self, candidates: Tensor, cost: np.ndarray) -> list[np.ndarray]:
        """For each candidate the ascending indices of a superset of the rows it attracts."""
        own = _squares(candidates)  # [L]
        # ‖x‖² + ‖c‖² − 2 x·c < cost, with every rounding error on the side of keeping the row.
        least = 0.5 * (self._square * (1 - 1e-14) - cost * (1 + _DISTANCE_ROUNDING)) - self._smallest  # [N]
        length = np.sqrt(own)
        passed: list[list[np.ndarray]] = [[] for _ in own]
        for part, block in self._rows.blocks():
            for rows in slices(block.shape, _SCREEN_BYTES):
                place = slice(part.start + rows.start, part.start + rows.stop)
                product = (block[rows].to(candidates.dtype) @ candidates.T).cpu().numpy()  # [n, L]
                bound = product + self._slope[place, None] * length
                maybe = bound > least[place, None] + 0.5 * (1 - 1e-14) * own
                for indices, column in zip(passed, maybe.T, strict=True):
                    indices.append(place.start + np.flatnonzero(column))
        return [np.concatenate(indices) for indices in passed]

    def _exact(self, index: np.ndarray, candidate: Tensor) -> np.ndarray:
        """Squared distances of the rows at ``index`` to ``candidate`` [D]."""
        parts = [np.zeros(0)]
        for part in slices((len(index), len(candidate)), _GATHER_BYTES):
            distance, _ = nearest(self._rows.take(index[part]), candidate[None], backend=self._backend)
            parts.append(distance.double().cpu().numpy())
        return np.concatenate(parts)


def _product_error(rows: Rows) -> float:
    """γ with ``|fl(x·c) − x·c| ≤ γ ‖x‖ ‖c‖``. Reference: Higham, Accuracy and Stability 2002, section 3.1."""
    D = rows.shape[1]
    # The factor 2 leaves room for the higher orders and for any order of summation.
    if rows.center_dtype == torch.float64:
        return 2.0 * (D + 2) * 2.0**-53
    cpu = rows.device.type == "cpu"
    matmul = torch.backends.mkldnn.matmul if cpu else torch.backends.cuda.matmul  # type: ignore[attr-defined]
    return 2.0 * ((D + 2) * 2.0**-24 + 2.0 * _INPUT_ROUNDOFF[matmul.fp32_precision])


def _squares(x: Tensor) -> np.ndarray:
    """Squared norms float64 [n] of rows [n, D]."""
    return np.concatenate([x[rows].double().square().sum(dim=1).cpu().numpy() for rows in slices(x.shape, CACHE_BYTES)])
