"""What ranks compute with our losses, and with open_clip's in the same process group."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyfast_mmcl import losses
from pyfast_mmcl.losses import ClipLoss, SigLipLoss
from pyfast_mmcl.models.open_clip_import import load_open_clip

FEATURES = 6


def inputs(n: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Unit image and text rows [n, FEATURES], scale and bias, all with gradients."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, n, FEATURES, generator=g, dtype=torch.float64)
    image, text = nn.functional.normalize(rows, dim=-1).to(dtype)
    numbers = torch.tensor([8.0, -4.0], dtype=dtype)
    return tuple(x.clone().requires_grad_() for x in (image, text, numbers[0], numbers[1]))


def answer(loss: nn.Module, *given: Tensor) -> dict[str, np.ndarray]:
    """Value and gradients."""
    leaves = [x.detach().clone().requires_grad_() for x in given]
    value = loss(*leaves)
    grads = torch.autograd.grad(value, leaves)
    names = ("image", "text", "scale", "bias")
    found = {name: g.double().numpy() for name, g in zip(names, grads, strict=True)}
    return {"value": value.detach().double().numpy(), **found}


def _both(group: dist.ProcessGroup, n: int, ours: type, name: str, options: dict) -> tuple[dict, dict]:
    load_open_clip()
    from open_clip import loss

    options = {**options, "rank": dist.get_rank(group), "world_size": dist.get_world_size(group)}
    given = inputs(n, dist.get_rank(group), torch.float64)
    own = answer(ours(**options, process_group=group), *given)
    return own, answer(getattr(loss, name)(**options), *given)


def clip(group: dist.ProcessGroup, n: int, options: dict) -> tuple[dict, dict]:
    """ClipLoss, ours and theirs."""
    return _both(group, n, ClipLoss, "ClipLoss", options)


def siglip(group: dist.ProcessGroup, n: int, options: dict) -> tuple[dict, dict]:
    """SigLipLoss, ours and theirs."""
    return _both(group, n, SigLipLoss, "SigLipLoss", options)


class Towers(nn.Module):
    """Two linear towers and a scale."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.image, self.text = (
            nn.Parameter(torch.randn(FEATURES, FEATURES, generator=g, dtype=torch.float64)) for _ in range(2)
        )
        self.logit_scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        unit = [nn.functional.normalize(x, dim=-1) for x in (image @ self.image, text @ self.text)]
        return *unit, self.logit_scale.exp()


def clip_under_ddp(group: dist.ProcessGroup, n: int, options: dict) -> tuple[dict, dict]:
    """Gradients of the parameters of two towers after DDP's average, with our loss and with theirs."""
    load_open_clip()
    from open_clip import loss

    rank = dist.get_rank(group)
    image, text, *_ = inputs(n, rank, torch.float64)
    found = []
    for kind in (ClipLoss, loss.ClipLoss):
        model = nn.parallel.DistributedDataParallel(Towers(), process_group=group)
        kind(**options, rank=rank, world_size=dist.get_world_size(group))(*model(image, text)).backward()
        found.append({name: p.grad.numpy() for name, p in model.named_parameters()})
    return found[0], found[1]


def wrong_rank(group: dist.ProcessGroup) -> None:
    """A loss that was told another rank than the process has."""
    ClipLoss(rank=9, world_size=dist.get_world_size(group))(*inputs(3, 0, torch.float32)[:3])


def modules(group: dist.ProcessGroup, name: str, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Value and gradients × ranks of one of our modules, its rows spread by ``sizes``."""
    rank = dist.get_rank(group)
    return _module(name, slice(sum(sizes[:rank]), sum(sizes[: rank + 1])), sum(sizes), len(sizes), process_group=group)


def module_in_one_process(name: str, n: int) -> dict[str, np.ndarray]:
    """The same with all rows."""
    return _module(name, slice(None), n, 1)


def _module(name: str, own: slice, n: int, factor: int, **options: object) -> dict[str, np.ndarray]:
    a, b, *_ = inputs(n, 7, torch.float64)
    module = getattr(losses, name)(learnable=True, **options).double()
    labels = torch.arange(n) % 4
    given = {"SupCon": (a[own], labels[own])}.get(name, (a[own], b[own]))
    value = module(*given)
    numbers = list(module.parameters())
    grads = torch.autograd.grad(factor * value, [a, *numbers])
    return {"value": value.detach().numpy(), "rows": grads[0].numpy(), "numbers": torch.stack(grads[1:]).numpy()}
