"""What several processes do with a batch that they share, run by the pool of tests and by the tests alike."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyfast_mmcl.losses.information import conditional_entropy, marginal_entropy
from pyfast_mmcl.losses.invariance import column_contrast, joint_assignment, joint_information
from pyfast_mmcl.ops.contrastive import nt_xent
from pyfast_mmcl.train.phases import Step
from pyfast_mmcl.train.processes import Processes
from pyfast_mmcl.train.shares import Shares


class Joined(Processes):
    """The processes of a group of torch.distributed."""

    def __init__(self, group: Any) -> None:
        super().__init__()
        if group is not None:
            self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)
        self._group = group

    def _reduce(self, x: Tensor, how: str) -> Tensor:
        x = x.clone()
        dist.all_reduce(x, group=self._group)
        return x / self.world if how == "mean" else x


def step_of(group: Any, B: int) -> tuple[Joined, Step]:
    processes = Joined(group)
    generator = torch.Generator().manual_seed(1)
    return processes, Step(torch.arange(B), generator, 0.0, 0, Shares(processes, B))


def gathered(group: Any, B: int) -> dict[str, Any]:
    """What comes back of two tensors one behind the other, and the gradient of one's own rows."""
    _, step = step_of(group, B)
    whole = torch.arange(2 * B * 3, dtype=torch.float64).view(2 * B, 3)
    own = step.own(whole).clone().requires_grad_(True)
    out = step.gather(own)
    weights = torch.randn(2 * B, 3, generator=step.generator, dtype=torch.float64)
    (out.square() * weights).sum().backward()
    return {"out": out.detach(), "grad": own.grad, "expected": step.own(2 * whole * weights), "rows": step.rows}


LOSSES = {
    "rim": lambda p, q: conditional_entropy(p) - marginal_entropy(p),
    "iic": lambda p, q: -joint_information(joint_assignment(p, q)),
    "cc": lambda p, q: column_contrast(p, q).double(),
    "nt_xent": lambda p, q: nt_xent(nn.functional.normalize(torch.cat([p, q]), dim=1), 2.0),
}


def learnt(group: Any, B: int, loss: str, norm: bool) -> dict[str, Tensor]:
    """Gradients of a loss of two views of a batch, averaged as the engine does, and running statistics."""
    processes, step = step_of(group, B)
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), nn.BatchNorm1d(6, momentum=None), nn.Tanh(), nn.Linear(6, 4)]
    network = nn.Sequential(*(layers if norm else [layers[0], *layers[2:]])).double()
    views = torch.randn(2 * B, 5, generator=step.generator, dtype=torch.float64)
    assert step.shares is not None
    for _ in range(2):
        network.zero_grad()
        with step.shares.statistics(network):
            own = network(step.own(views)).softmax(1)
        # A mean over one's own rows beside what is said of all.
        p, q = step.gather(own).chunk(2)
        total = LOSSES[loss](p, q) + own.chunk(2)[0][:, 0].mean()
        (total * step.shares.weight).backward()
        processes.average_gradients(network.parameters())
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return {**gradients, **dict(network.named_buffers()), "loss": processes.mean((total * step.shares.weight).detach())}


def normalized(group: Any, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """A layer of batch normalisation on rows of ``shape``, first in training, then at rest."""
    _, step = step_of(group, shape[0])
    x = torch.randn(shape, generator=step.generator) * 3 + 100
    kind = nn.BatchNorm1d if len(shape) < 4 else nn.BatchNorm2d
    layer = kind(shape[1], affine=False, eps=1e-3)
    assert step.shares is not None
    with step.shares.statistics(layer):
        trained = layer(step.own(x).to(dtype))
        layer.eval()
        resting = layer(step.own(x).to(dtype))
    assert "forward" not in vars(layer)
    return {"trained": step.gather(trained), "resting": step.gather(resting), **dict(layer.named_buffers())}
