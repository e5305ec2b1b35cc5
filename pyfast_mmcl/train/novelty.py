"""To which task a row belongs, or to none: one autoencoder per task, and limits that the task's own rows set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.calibration import conformal_limit


class LinearAutoencoders:
    """For every task the best linear autoencoder of its rows, and the largest error that still counts as its own.

    ``e_t(x) = ‖(I − U_t U_tᵀ)(x − μ_t)‖² / D``, U_t [D, c] the first c principal directions of the task's rows, which
    no linear encoder and decoder of code c beat (Baldi & Hornik, Neural Networks 1989).
    ``task(x) = argmin_t e_t(x) / limit_t``, or −1 where the smallest ratio is above 1.

    code   c; default a fifth of D, at least 1
    miss   share of a task's own rows that may be taken for foreign: limit_t is the conformal limit of errors on rows
           that the autoencoder was not fitted to

    Rows are looked at one by one: the answer for one does not depend on which others are asked.
    """

    def __init__(self, code: int | None = None, miss: float = 0.05) -> None:
        if not 0 < miss < 1:
            raise InputError(f"miss: expected a share between 0 and 1, got {miss!r}.")
        self.code, self.miss = code, miss
        self.means_: list[Tensor] = []
        self.bases_: list[Tensor] = []
        self.limits_: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.limits_)

    def fit(self, rows: Tensor, held_out: Tensor) -> None:
        """Add a task: its rows [N, D], and which of them, bool [N], set the limit. Too few to do both do both."""
        rows = rows.double()
        fitted = rows[~held_out] if 0 < int(held_out.sum()) < len(rows) - 1 else rows
        mean = fitted.mean(0)
        code = max(1, rows.shape[1] // 5) if self.code is None else self.code
        # A basis of all directions would take every row for its own.
        code = min(code, rows.shape[1] - 1, max(1, len(fitted) - 1))
        centred = fitted - mean
        basis = torch.linalg.eigh(centred.mT @ centred).eigenvectors[:, -code:]
        self.means_.append(mean)
        self.bases_.append(basis)
        judged = rows[held_out] if len(fitted) < len(rows) else rows
        limit = conformal_limit(_errors(judged, mean[None], basis[None])[:, 0], self.miss)
        self.limits_.append(limit.clamp(min=1e-12))

    def errors(self, rows: Tensor) -> Tensor:
        """e_t / limit_t [N, T] of rows [N, D]: 1 is the most that counts as the task's own."""
        means, limits = torch.stack(self.means_), torch.stack(self.limits_)
        widest = max(basis.shape[1] for basis in self.bases_)
        bases = torch.stack([torch.nn.functional.pad(basis, (0, widest - basis.shape[1])) for basis in self.bases_])
        return _errors(rows.double(), means, bases) / limits

    def task(self, rows: Tensor) -> Tensor:
        """The task int64 [N] that rows [N, D] belong to, −1 for those of none."""
        smallest, task = self.errors(rows).min(1)
        return task.masked_fill(smallest > 1, -1)

    def to(self, device: torch.device) -> LinearAutoencoders:
        """Move what was learned to ``device``; returns self."""
        for kept in (self.means_, self.bases_, self.limits_):
            kept[:] = [x.to(device) for x in kept]
        return self

    def state_dict(self) -> dict[str, Any]:
        return {"means": list(self.means_), "bases": list(self.bases_), "limits": list(self.limits_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.means_, self.bases_ = list(state["means"]), list(state["bases"])
        self.limits_ = list(state["limits"])


def _errors(rows: Tensor, means: Tensor, bases: Tensor) -> Tensor:
    """‖(I − U Uᵀ)(x − μ)‖² / D [N, T] of rows [N, D] for means [T, D] and bases [T, D, c]."""
    rest = rows.unsqueeze(0) - means.unsqueeze(1)
    rest = rest - (rest @ bases) @ bases.mT
    return rest.square().mean(2).mT
