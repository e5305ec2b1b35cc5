"""The pairwise sigmoid loss with a temperature and a bias of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import unknown_name
from pyfast_mmcl.losses.temperature import LogitScale
from pyfast_mmcl.ops.contrastive import siglip

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

REDUCTIONS = ("mean", "sum")


class SigLIP(LogitScale):
    """Sigmoid loss over all pairs, with a learnable temperature and bias.

    ``s = exp(logit_scale) * unit(a) @ unit(b).T + logit_bias;  y = 1 where i and j belong together, else -1``
    ``softplus(-y * s).sum() / N``; value and gradients from one pass, the N×M matrix is never formed

    Args:
        temperature: 0.1 at the start (t′ = log 10, Zhai et al. 2023).
        bias: −10 at the start (the same).
        learnable: whether both are parameters, logit_scale and logit_bias; default True.
        max_scale: largest scale; default None, no bound.
        normalize: unit rows first; default True, harmless where they are.
        reduction: "mean" (the sum divided by N) or "sum".
        precision, backend: as `ops.contrastive.siglip`.
        process_group: rows of all its ranks take part, each rank holds its own; with DDP multiply the loss by the
            number of ranks, then this module's parameters are right whether DDP knows them or not
            (`ops.contrastive.ring`). Default None: this process alone.

    Called with a [N, D], b [M, D] and optionally labels as the op takes them.

    Raises:
        InputError: as the op; a temperature or max_scale that makes no sense.

    Reference: Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023, eq. 1 and algorithm 1.
    """

    logit_bias: Tensor

    def __init__(
        self,
        temperature: float = 0.1,
        bias: float = -10.0,
        *,
        learnable: bool = True,
        max_scale: float | None = None,
        normalize: bool = True,
        reduction: str = "mean",
        precision: str = "auto",
        backend: str = "auto",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(temperature, learnable=learnable, max_scale=max_scale)
        if reduction not in REDUCTIONS:
            raise unknown_name("reduction", reduction, REDUCTIONS)
        if learnable:
            self.logit_bias = nn.Parameter(torch.tensor(float(bias)))
        else:
            self.register_buffer("logit_bias", torch.tensor(float(bias)))
        self.normalize = normalize
        self.reduction = reduction
        self.precision = precision
        self.backend = backend
        self.process_group = process_group

    def forward(self, a: Tensor, b: Tensor, *, labels: Any = None) -> Tensor:
        if self.normalize:
            a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
        return siglip(
            a,
            b,
            self.scale(),
            self.logit_bias,
            labels=labels,
            reduction=self.reduction,
            precision=self.precision,
            backend=self.backend,
            process_group=self.process_group,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bias={float(self.logit_bias.detach()):.4g}"
