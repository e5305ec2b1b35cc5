"""A bank of small expert networks, computed in groups: no Python loop over experts, no look at the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl.models.attach import uniform


class ExpertBank(nn.Module):
    """Rows x [B, S, D] through k of E experts: y_i = scale · Σ_j g_ij · up_e(dropout(relu(down_e(x_i)))), e = c_ij.

    All S positions of a row share its experts c = ``chosen`` int64 [B, k] and their gates g [B, k]. down_e goes from D
    to hidden and up_e back, both with a bias; the latter starts at 0, so that the answer at the start is 0.

    Every expert has parameters of its own, so that it can be frozen alone; they are stacked to [E, hidden, D] and used
    in one of three forms, chosen by shapes and device alone:
    dense     every row through every expert, gates 0 where it is not chosen: where k = E
    grouped   (row, choice) pairs sorted by expert, then one grouped matrix product per layer: in float32 and bfloat16
              on the CPU, in bfloat16 on a GPU, for widths that are multiples of 16 bytes
    gathered  the weights of the chosen experts beside each row, one batched matrix product per layer: otherwise, as a
              grouped product in float32 would make a GPU wait for the sizes of its groups
    """

    def __init__(
        self, width: int, experts: int, hidden: int, *, scale: float, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.width, self.hidden, self.scale, self.dropout = width, hidden, scale, dropout
        bound = width**-0.5
        downs = [uniform(hidden, width, bound=bound, generator=generator) for _ in range(experts)]
        self.down = nn.ParameterList(downs)
        self.down_bias = nn.ParameterList(torch.zeros(hidden) for _ in range(experts))
        self.up = nn.ParameterList(torch.zeros(hidden, width) for _ in range(experts))
        self.up_bias = nn.ParameterList(torch.zeros(width) for _ in range(experts))

    def __len__(self) -> int:
        return len(self.down)

    def parameters_of(self, expert: int) -> tuple[Tensor, ...]:
        return self.down[expert], self.down_bias[expert], self.up[expert], self.up_bias[expert]

    def freeze(self, experts: Sequence[int]) -> None:
        """Let no gradient reach these experts from now on."""
        for expert in experts:
            for p in self.parameters_of(expert):
                p.requires_grad_(False)

    def forward(self, x: Tensor, chosen: Tensor, gates: Tensor) -> Tensor:
        down, down_bias, up, up_bias = (
            torch.stack(list(bank.parameters())).to(x.dtype)
            for bank in (self.down, self.down_bias, self.up, self.up_bias)
        )
        form = self.form(x, chosen)
        if form == "dense":
            return self._dense(x, chosen, gates, down, down_bias, up, up_bias)
        if form == "grouped":
            return self._grouped(x, chosen, gates, down, down_bias, up, up_bias)
        return self._gathered(x, chosen, gates, down, down_bias, up, up_bias)

    def form(self, x: Tensor, chosen: Tensor) -> str:
        """How rows like these are computed."""
        if chosen.shape[1] == len(self):
            return "dense"
        # The compiler knows grouped products in bfloat16 alone.
        plain_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
        fast = (torch.float32, torch.bfloat16) if plain_cpu else (torch.bfloat16,)
        # Grouped products take matrices whose rows begin at multiples of 16 bytes.
        aligned = all(size * x.element_size() % 16 == 0 for size in (self.width, self.hidden))
        return "grouped" if x.numel() and x.dtype in fast and aligned else "gathered"

    def _inner(self, h: Tensor) -> Tensor:
        return F.dropout(h.relu(), self.dropout, self.training)

    def _dense(self, x, chosen, gates, down, down_bias, up, up_bias) -> Tensor:
        share = torch.zeros(len(x), len(self), dtype=gates.dtype, device=x.device).scatter(1, chosen, gates)
        share = (self.scale * share).to(x.dtype)
        h = self._inner(F.linear(x, down.flatten(0, 1), down_bias.flatten())).unflatten(2, (len(self), -1))
        h = (h * share[:, None, :, None]).flatten(2)
        return h @ up.flatten(0, 1) + (share @ up_bias).unsqueeze(1)

    def _gathered(self, x, chosen, gates, down, down_bias, up, up_bias) -> Tensor:
        share = (self.scale * gates).to(x.dtype)
        k = chosen.shape[1]
        h = torch.bmm(x, down[chosen].flatten(1, 2).mT) + down_bias[chosen].flatten(1).unsqueeze(1)
        h = (self._inner(h).unflatten(2, (k, -1)) * share[:, None, :, None]).flatten(2)
        return torch.bmm(h, up[chosen].flatten(1, 2)) + torch.bmm(share.unsqueeze(1), up_bias[chosen])

    def _grouped(self, x, chosen, gates, down, down_bias, up, up_bias) -> Tensor:
        (n, positions, width), k = x.shape, chosen.shape[1]
        expert, order = chosen.flatten().sort(stable=True)
        # Ends of the groups, counted in positions; found without reading a number back.
        ends = torch.searchsorted(expert, torch.arange(len(self), device=x.device), right=True) * positions
        ends = ends.to(torch.int32)
        pairs = x.unsqueeze(1).expand(n, k, positions, width).flatten(0, 1)[order]
        h = F.grouped_mm(pairs.flatten(0, 1), down.mT, offs=ends).unflatten(0, (-1, positions))
        h = self._inner(h + down_bias[expert].unsqueeze(1))
        share = (self.scale * gates.flatten()[order]).to(x.dtype)
        y = F.grouped_mm(h.flatten(0, 1), up, offs=ends).unflatten(0, (-1, positions)) + up_bias[expert].unsqueeze(1)
        y = y * share[:, None, None]
        # Back to the order of the rows by a permutation, which adds nothing up: the sum over k is in one fixed order.
        return y[order.argsort()].unflatten(0, (n, k)).sum(1)
