"""Contrastive losses with a temperature of their own: InfoNCE, NT-Xent and SupCon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses._reduce import check_reduction
from pyfast_mmcl.losses.temperature import LogitScale
from pyfast_mmcl.ops.contrastive import PackedReference, info_nce, nt_xent, sup_con

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class _Contrast(LogitScale):
    """What the three losses share: the temperature, unit rows, and how the op is run."""

    def __init__(
        self,
        temperature: float,
        *,
        learnable: bool,
        max_scale: float | None,
        normalize: bool = True,
        reduction: str = "mean",
        precision: str = "auto",
        backend: str = "auto",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(temperature, learnable=learnable, max_scale=max_scale)
        self.normalize = normalize
        self.reduction = check_reduction(reduction)
        self.precision = precision
        self.backend = backend
        self.process_group = process_group

    def unit(self, x: Any) -> Any:
        """``x`` with rows of length 1 where that is wanted; frozen rows are packed as they are to be used."""
        return F.normalize(x, dim=-1) if self.normalize and isinstance(x, Tensor) else x

    def options(self) -> dict[str, Any]:
        """Keywords of the op."""
        names = ("reduction", "precision", "backend", "process_group")
        return {name: getattr(self, name) for name in names}


class InfoNCE(_Contrast):
    """CLIP's loss: every row of a against all rows of b and back, with a learnable temperature.

    ``s = exp(logit_scale) * unit(a) @ unit(b).T``
    ``(cross_entropy(s, arange(N)) + cross_entropy(s.T, arange(N))) / 2;  the N×M matrix is never formed``

    Args:
        temperature: 0.07 at the start (CLIP §2.5).
        learnable: default True; the parameter is logit_scale = log(1/temperature).
        max_scale: largest scale, 100 (CLIP); None: no bound. See `LogitScale` for `clamp_`.
        direction: "both" (default), "ab" or "ba".
        normalize: unit rows first; default True, harmless where they are. False: rows as they are.
        reduction, precision, backend: as `ops.contrastive.info_nce`.
        process_group: rows of all its ranks take part, each rank holds its own; with DDP multiply the loss by the
            number of ranks, then this module's parameters are right whether DDP knows them or not
            (`ops.contrastive.ring`). Default None: this process alone.

    Called with a [N, D], b [M, D] or a `PackedReference`, and optionally labels and weights as the op takes them.

    Raises:
        InputError: as the op; a temperature or max_scale that makes no sense.

    Reference: van den Oord et al. 2018, eq. 4; Radford et al., CLIP, ICML 2021.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learnable: bool = True,
        max_scale: float | None = 100.0,
        direction: str = "both",
        normalize: bool = True,
        reduction: str = "mean",
        precision: str = "auto",
        backend: str = "auto",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            temperature,
            learnable=learnable,
            max_scale=max_scale,
            normalize=normalize,
            reduction=reduction,
            precision=precision,
            backend=backend,
            process_group=process_group,
        )
        self.direction = direction

    def forward(self, a: Tensor, b: Tensor | PackedReference, *, labels: Any = None, weights: Any = None) -> Tensor:
        return info_nce(
            self.unit(a),
            self.unit(b),
            self.scale(),
            direction=self.direction,
            labels=labels,
            weights=weights,
            **self.options(),
        )


class NTXent(_Contrast):
    """SimCLR's loss: the two views of an example against all other views of the batch.

    ``z = unit(cat([view_a, view_b]));  s = (z @ z.T / temperature).fill_diagonal_(-inf)``
    ``cross_entropy(s, (arange(2 * N) + N) % (2 * N))``, from half of the products and without the matrix

    Args:
        temperature: 0.5 (SimCLR on CIFAR-10; lightly's default).
        learnable: default False.
        max_scale, normalize, reduction, precision, backend, process_group: as `InfoNCE`; max_scale default None.

    Called with view_a [N, D] and view_b [N, D].

    Raises:
        InputError: views of other shapes; as the op.

    Reference: Chen et al., SimCLR, ICML 2020, eq. 1.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        *,
        learnable: bool = False,
        max_scale: float | None = None,
        normalize: bool = True,
        reduction: str = "mean",
        precision: str = "auto",
        backend: str = "auto",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            temperature,
            learnable=learnable,
            max_scale=max_scale,
            normalize=normalize,
            reduction=reduction,
            precision=precision,
            backend=backend,
            process_group=process_group,
        )

    def forward(self, view_a: Tensor, view_b: Tensor) -> Tensor:
        if view_a.shape != view_b.shape:
            raise InputError(
                f"view_a and view_b: expected two views of the same examples, got shapes {list(view_a.shape)} and "
                f"{list(view_b.shape)}."
            )
        return nt_xent(self.unit(torch.cat([view_a, view_b])), self.scale(), **self.options())


class SupCon(_Contrast):
    """Supervised contrastive loss: rows of one label are drawn together.

    ``s = (unit(z) @ unit(z).T / temperature).fill_diagonal_(-inf);  P(i) = {j ≠ i: labels[j] = labels[i]}``
    ``L_i = s[i].logsumexp(0) - s[i, P(i)].mean();  mean over the rows that have a positive``

    Args:
        temperature: 0.1 (Khosla et al. 2020, §4). Their code multiplies by temperature/0.07, ours does not.
        learnable: default False.
        max_scale, normalize, reduction, precision, backend, process_group: as `InfoNCE`; max_scale default None.

    Called with z [N, D] (all views together), labels [N], and optionally weights [N].

    Raises:
        InputError: as the op.

    Reference: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        learnable: bool = False,
        max_scale: float | None = None,
        normalize: bool = True,
        reduction: str = "mean",
        precision: str = "auto",
        backend: str = "auto",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            temperature,
            learnable=learnable,
            max_scale=max_scale,
            normalize=normalize,
            reduction=reduction,
            precision=precision,
            backend=backend,
            process_group=process_group,
        )

    def forward(self, z: Tensor, labels: Any, *, weights: Any = None) -> Tensor:
        return sup_con(self.unit(z), labels, self.scale(), weights=weights, **self.options())
