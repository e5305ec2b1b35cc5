"""open_clip's two losses under their names and arguments: a training script switches by changing one import.

``from open_clip.loss import ClipLoss``  →  ``from pyfast_mmcl.losses import ClipLoss``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.ops.contrastive import info_nce, siglip
from pyfast_mmcl.ops.contrastive.ring import info_nce_ring, info_nce_rows_ring, siglip_ring

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

DIST_IMPLS = ("bidir", "shift", "reduce", "gather")


class _OpenClipLoss(nn.Module):
    """Rank, ranks and how the op is run."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        use_horovod: bool,
        precision: str,
        backend: str,
        process_group: ProcessGroup | None,
    ) -> None:
        super().__init__()
        if use_horovod:
            raise InputError(
                "use_horovod: only torch.distributed is supported; start the script with torchrun and leave it False."
            )
        self.rank = rank
        self.world_size = world_size
        self.use_horovod = use_horovod
        self.precision = precision
        self.backend = backend
        self.process_group = process_group

    def group(self) -> ProcessGroup:
        """The process group, whose rank and size must be those that the constructor was told."""
        if not (dist.is_available() and dist.is_initialized()):
            raise InputError(
                f"world_size: expected an initialised torch.distributed for {self.world_size} processes; call "
                "torch.distributed.init_process_group first."
            )
        group: Any = dist.group.WORLD if self.process_group is None else self.process_group
        found = (dist.get_rank(group), dist.get_world_size(group))
        if found != (self.rank, self.world_size):
            raise InputError(
                f"rank and world_size: expected those of the process group, {found[0]} of {found[1]}, got {self.rank} "
                f"of {self.world_size}."
            )
        return group

    def options(self, features: Tensor) -> dict[str, Any]:
        """Keywords of the op; under bfloat16 autocast, products are of bfloat16 as open_clip's are."""
        precision, device = self.precision, features.device.type
        lowered = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        if precision == "auto" and lowered and features.dtype == torch.float32:
            precision = "bfloat16"
        return {"precision": precision, "backend": self.backend}


class ClipLoss(_OpenClipLoss):
    """CLIP's loss with open_clip's arguments and values, without the N×N matrices and without gathering rows.

    ``s = logit_scale * image_features @ text_features.T (+ logit_bias)``
    ``(cross_entropy(s, arange(N)) + cross_entropy(s.T, arange(N))) / 2``

    On several ranks both sides are those of all ranks; the rows travel round a ring instead of being gathered. What
    every rank returns, and the gradient it gets, follow open_clip. W is the number of ranks, L the loss of all rows:

    local_loss  gather_with_grad  value             gradient of own rows   gradient of logit_scale
    False       False             L                 that of L              that of L
    False       True              L                 W × that of L          that of L
    True        False             mean of own rows  own rows as rows only  that of the own value
    True        True              mean of own rows  W × that of L          that of L

    The two modes with gather_with_grad are right under DDP, which averages over ranks. The last line assumes equal
    batches on all ranks, as open_clip does throughout. In the modes with W × the gradient of logit_scale is open_clip's
    after DDP's average; before it, every rank holds the average already where open_clip's differ by rank.

    Args:
        local_loss, gather_with_grad: see the table; both False as in open_clip.
        cache_labels: accepted and without effect, there are no labels to keep.
        rank, world_size: of this process; 0 and 1.
        use_horovod: not supported.
        precision, backend: as `ops.contrastive.info_nce`; "auto" under bfloat16 autocast is "bfloat16".
        process_group: default None, torch.distributed.group.WORLD.

    Called with image_features [N, D], text_features [N, D] (unit rows), logit_scale (0-d, already exp), logit_bias
    (cancels in the softmax: its gradient is 0) and output_dict. Returns a float32 scalar, or {"contrastive_loss": it}.

    Raises:
        InputError: use_horovod; ranks that do not fit the process group; as the op.

    Reference: open_clip 3.3.0, loss.ClipLoss; Radford et al., CLIP, ICML 2021.
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
        *,
        precision: str = "auto",
        backend: str = "auto",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(rank, world_size, use_horovod, precision, backend, process_group)
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor | float,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        rows = (image_features, text_features, logit_scale)
        if self.world_size == 1:
            loss = info_nce(*rows, **self.options(image_features))
        elif self.local_loss:
            loss = self._own_rows(*rows)
        else:
            convention = (self.world_size, "mean") if self.gather_with_grad else (1, "sum")
            loss = info_nce_ring(
                *rows,
                process_group=self.group(),
                gradient_factor=convention[0],
                scale_gradient=convention[1],
                **self.options(image_features),
            )
        if logit_bias is not None:
            # A constant cancels in both softmaxes; DDP wants to see that the parameter was used.
            loss = loss + 0 * torch.as_tensor(logit_bias).sum()
        return {"contrastive_loss": loss} if output_dict else loss

    def _own_rows(self, image: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
        """Mean over the own images and the own texts, each against all ranks' rows of the other side."""
        options = {"process_group": self.group(), **self.options(image)}
        if self.gather_with_grad:
            rows, cols = info_nce_rows_ring(image, text, scale, scale_gradient="mean", **options)
        else:
            options.update(direction="ab", scale_gradient="share")
            rows, _ = info_nce_rows_ring(image, text.detach(), scale, **options)
            cols, _ = info_nce_rows_ring(text, image.detach(), scale, **options)
        loss = (rows.mean() + cols.mean()) / 2
        return loss if image.dtype == torch.float64 else loss.float()


class SigLipLoss(_OpenClipLoss):
    """SigLIP's loss with open_clip's arguments and values; one pass for value and gradients, no N×N matrix.

    ``s = logit_scale * image_features @ text_features.T + logit_bias;  softplus(-y * s).sum() / N``

    On several ranks: this rank's images against the texts of all ranks, divided by this rank's number of images, and
    the gradient of the sum of these values, as open_clip. DDP's average is then that of the loss of all rows. Every
    rank must have equally many rows.

    Args:
        cache_labels: accepted and without effect.
        rank, world_size: of this process; 0 and 1.
        dist_impl: "bidir", "shift", "reduce" or "gather" of open_clip; one ring serves for all of them.
        bidir, chunk_size, use_horovod: arguments of other versions of open_clip. bidir and chunk_size change how
            open_clip computes, not what, and are without effect; use_horovod is not supported.
        precision, backend: as `ops.contrastive.siglip`; "auto" under bfloat16 autocast is "bfloat16".
        process_group: default None, torch.distributed.group.WORLD.

    Called with image_features [N, D], text_features [N, D] (unit rows), logit_scale (0-d, already exp), logit_bias
    (0-d, or None for 0) and output_dict. Returns a float32 scalar, or {"contrastive_loss": it}.

    Raises:
        InputError: unknown dist_impl; use_horovod; ranks that do not fit the process group; as the op.

    Reference: open_clip 3.3.0, loss.SigLipLoss; Zhai et al., ICCV 2023.
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        *,
        bidir: bool = True,
        chunk_size: int | None = None,
        use_horovod: bool = False,
        precision: str = "auto",
        backend: str = "auto",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(rank, world_size, use_horovod, precision, backend, process_group)
        self.cache_labels = cache_labels
        self.dist_impl = dist_impl or "bidir"
        self.bidir = bidir
        self.chunk_size = chunk_size
        if self.dist_impl not in DIST_IMPLS:
            raise unknown_name("dist_impl", dist_impl, DIST_IMPLS)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor | float,
        logit_bias: Tensor | float | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        rows = (image_features, text_features, logit_scale, 0.0 if logit_bias is None else logit_bias)
        if self.world_size == 1:
            loss = siglip(*rows, **self.options(image_features))
        else:
            own = {"reduction": "own", "scale_gradient": "share"}
            loss = siglip_ring(*rows, process_group=self.group(), **own, **self.options(image_features))
        return {"contrastive_loss": loss} if output_dict else loss
