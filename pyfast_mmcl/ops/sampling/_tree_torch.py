"""The priority tree in plain torch, on any device: the truth for the compiled one."""

from __future__ import annotations

import torch
from torch import Tensor

from .keys import fold_seed, hash_uniform

WIDTH = 16


class TreeReference:
    """Levels of nodes of 16, from the leaves up to one root.

    sums[0]  float32 [nodes, 16], the leaves; sums[l] float64 [nodes, 16], the sums of the children of level l − 1
    least[l] float32 [nodes, 16], smallest positive leaf below, infinite where there is none

    A node's sum is that of its 16 entries added in order, one after the other, in float64.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu") -> None:
        self.capacity, self._positive = capacity, 0
        self.sums: list[Tensor] = []
        nodes = capacity
        while nodes > 1 or not self.sums:
            nodes = -(-nodes // WIDTH)
            dtype = torch.float64 if self.sums else torch.float32
            self.sums.append(torch.zeros(nodes, WIDTH, dtype=dtype, device=device))
        self.least = [torch.full_like(level, torch.inf, dtype=torch.float32) for level in self.sums]

    def __len__(self) -> int:
        return self._positive

    @property
    def total(self) -> float:
        return float(running_sums(self.sums[-1])[0, -1])

    @property
    def minimum(self) -> float:
        return float(self.least[-1].min())

    def leaves(self) -> Tensor:
        """float32 [capacity], a copy."""
        return self._leaves().clone()

    def priority(self, index: Tensor) -> Tensor:
        """float32 [B] of leaves int64 [B]."""
        return self._leaves()[index]

    def load(self, leaves: Tensor) -> None:
        """Set all leaves and recompute every node."""
        self._positive = int((leaves > 0).sum())
        value, least = leaves + 0.0, torch.where(leaves > 0, leaves, torch.inf)
        for sums, low in zip(self.sums, self.least, strict=True):
            sums.view(-1)[: len(value)], low.view(-1)[: len(value)] = value, least
            value, least = running_sums(sums)[:, -1], low.amin(1)

    def update(self, index: Tensor, priority: Tensor) -> None:
        """Write leaves int64 [B] (last wins) and recompute the nodes above them from their children."""
        if len(index) == 0:
            return
        index, order = index.sort(stable=True)
        last = torch.ones_like(index, dtype=torch.bool)
        last[:-1] = index[1:] != index[:-1]
        index, value = index[last], priority[order[last]].float() + 0.0  # −0 becomes 0
        self._positive += int((value > 0).sum()) - int((self._leaves()[index] > 0).sum())
        least = torch.where(value > 0, value, torch.inf)
        for sums, low in zip(self.sums, self.least, strict=True):
            sums.view(-1)[index], low.view(-1)[index] = value, least
            index = torch.div(index, WIDTH, rounding_mode="floor").unique_consecutive()
            value, least = running_sums(sums[index])[:, -1], low[index].amin(1)

    def sample(self, n: int, seed: int, step: int, stratified: bool = True) -> tuple[Tensor, Tensor]:
        """int64 [n] leaves and float64 [n] ``leaf / total``."""
        draw = torch.arange(n, device=self.sums[0].device)
        u = hash_uniform(fold_seed(seed, step), draw)
        total = self.total
        rest = _below((draw + u) / n * total if stratified else u * total, u.new_tensor(total))
        node = torch.zeros_like(draw)
        for sums in reversed(self.sums):
            rows = sums[node]
            prefix = running_sums(rows)
            child = (prefix <= rest[:, None]).sum(1)
            left = torch.where(child > 0, prefix.gather(1, (child - 1).clamp(min=0)[:, None])[:, 0], 0.0)
            # Below the child's own sum, prefixes of the child reach past the rest: a leaf of 0 has no width.
            rest = _below(rest - left, rows.gather(1, child[:, None])[:, 0].double())
            node = WIDTH * node + child
        return node, self._leaves()[node].double() / total

    def _leaves(self) -> Tensor:
        return self.sums[0].view(-1)[: self.capacity]


def running_sums(rows: Tensor) -> Tensor:
    """float64 [nodes, 16] sums from the left, each rounded before the next is added."""
    sums = rows.to(torch.float64, copy=True)
    for place in range(1, WIDTH):
        sums[:, place] += sums[:, place - 1]
    return sums


def _below(x: Tensor, bound: Tensor) -> Tensor:
    """The smaller of x and the largest number below the bound."""
    return torch.minimum(x, torch.nextafter(bound, torch.zeros_like(bound)))
